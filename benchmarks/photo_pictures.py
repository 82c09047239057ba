"""The photographs of the `photo` bundle, out of the packages that carry them.

    apt-get download gcompris-qt-data lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 python3-scipy
    for package in *.deb; do dpkg -x $package packages; done
    pip install scikit-image scikit-learn
    python -m benchmarks.photo_pictures packages pictures     # pictures/train, pictures/tune, pictures/held_out

Which they are, who made them, and under which licence: models/bundles/photo_denoiser/PICTURES.tsv. The weights that
ship have learned from those of `train` alone, all of them in the public domain, CC0 or CC BY.
"""

from __future__ import annotations

import bz2
import csv
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from certify.models.bundle import BUNDLES
from certify.models.errors import DataError

__all__ = ("LIST", "Picture", "extract", "listed_pictures", "read_rcc")

LIST = BUNDLES / "photo_denoiser" / "PICTURES.tsv"
SCIPY_SHAPE = (768, 1024, 3)  # of its raccoon, which is bare pixels, packed


@dataclass(frozen=True)
class Picture:
    """A line of the list."""

    part: str  # train, tune or held_out
    package: str  # Debian's name, or "pypi:" and PyPI's
    file: str  # inside it; of gcompris-qt-data, inside the resource file of its activity
    author: str
    licence: str
    source: str

    @property
    def name(self) -> str:
        """What it is called in its part's folder."""
        if self.package in _SPECIAL:
            return f"{_SPECIAL[self.package]}-{Path(self.file).with_suffix(_suffix(self.file)).name}"
        parts = Path("share", self.file) if self.package.startswith("lomiri") else Path("activities", self.file)
        return "-".join(parts.parts[-3:]).replace("resource-", "").replace("images-", "")


_SPECIAL = {"python3-scipy": "scipy", "pypi:scikit-image": "skimage", "pypi:scikit-learn": "sklearn"}


def _suffix(file: str) -> str:
    return ".png" if file.endswith(".dat") else Path(file).suffix


def listed_pictures() -> list[Picture]:
    """All of the list, in its order."""
    with LIST.open(encoding="utf-8", newline="") as file:
        return [Picture(**row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def extract(packages: Path, out: Path) -> dict[str, int]:
    """Write out/PART/NAME of every picture; returns how many of each part.

    packages: where the Debian packages were unpacked. Raises DataError naming a package that is not there.
    """
    resources: dict[str, dict[str, bytes]] = {}
    counts: dict[str, int] = {}
    for picture in listed_pictures():
        target = out / picture.part / picture.name
        target.parent.mkdir(parents=True, exist_ok=True)
        content = _content(picture, packages, resources)
        if picture.package == "python3-scipy":
            pixels = np.frombuffer(bz2.decompress(content), dtype=np.uint8).reshape(SCIPY_SHAPE)
            Image.fromarray(pixels).save(target)
        else:
            target.write_bytes(content)
        counts[picture.part] = counts.get(picture.part, 0) + 1
    return counts


def _content(picture: Picture, packages: Path, resources: dict[str, dict[str, bytes]]) -> bytes:
    if picture.package.startswith("pypi:"):
        module, _, inside = picture.file.partition("/")
        spec = find_spec(module)
        places = [] if spec is None else [Path(place) / inside for place in spec.submodule_search_locations or ()]
        if not places:
            raise DataError(f"{picture.file}: expected it here: pip install {picture.package.removeprefix('pypi:')}")
        return places[0].read_bytes()
    try:
        if picture.package != "gcompris-qt-data":
            return (packages / picture.file).read_bytes()
        activity = picture.file.partition("/")[0]
        if activity not in resources:
            path = packages / "usr/share/gcompris-qt/rcc" / f"{activity}.rcc"
            resources[activity] = dict(read_rcc(path.read_bytes()))
        return resources[activity][f"gcompris/src/activities/{picture.file}"]
    except (OSError, KeyError) as error:
        raise DataError(f"{packages}: expected Debian's {picture.package}, unpacked, with {picture.file}") from error


def read_rcc(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(path, content) of every file in a Qt resource file that is stored or in zlib, which the pictures are.

    Source: Qt's rcc.cpp, format 2 and 3: a tree of nodes in 22 bytes, children of a folder in a row.
    """
    _, tree, contents, names = struct.unpack(">4I", data[4:20])
    waiting = [(0, "")]
    while waiting:
        number, above = waiting.pop()
        at = tree + 22 * number
        name, flags = struct.unpack(">IH", data[at : at + 6])
        path = f"{above}/{_name(data, names + name)}" if above else _name(data, names + name) if number else ""
        if flags & 2:  # a folder
            count, first = struct.unpack(">II", data[at + 6 : at + 14])
            waiting += [(child, path) for child in range(first, first + count)]
        elif not flags & 4:  # not Zstandard
            (start,) = struct.unpack(">I", data[at + 10 : at + 14])
            (length,) = struct.unpack(">I", data[contents + start : contents + start + 4])
            stored = data[contents + start + 4 : contents + start + 4 + length]
            yield path, zlib.decompress(stored[4:]) if flags & 1 else stored


def _name(data: bytes, at: int) -> str:
    (length,) = struct.unpack(">H", data[at : at + 2])
    return data[at + 6 : at + 6 + 2 * length].decode("utf-16-be")


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("expected two folders: python -m benchmarks.photo_pictures PACKAGES OUT")
    counts = extract(Path(sys.argv[1]), Path(sys.argv[2]))
    print(", ".join(f"{count} in {part}" for part, count in counts.items()))


if __name__ == "__main__":
    main()
