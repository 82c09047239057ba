"""Labelled images for `certify dataset`: scikit-learn's digits, an .npz of JPEGs, or a folder with one folder a class.

Each image is kept as the bytes of a file, so that it takes the way of any client's image: decoded here as the service
decodes it, or sent to a service. `idx` is an image's number in the whole data set, whatever part of it is asked for.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DataError

__all__ = ("DIGITS_PARTS", "DIGITS_SPLIT", "DataSet", "digits_parts", "digits_pixels", "open_dataset")

DIGITS_SPLIT = "digits-60-15-25-v1"  # another split gets another name
DIGITS_PARTS = ("train", "tune", "held_out")
_DIGITS_SEED = 2310_16779
_DIGITS_BRIGHTEST = 16
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_ARRAYS = ("jpeg", "offsets", "labels", "classes")


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Images in the order in which they are certified."""

    name: str
    split: str  # which part of which split, or "all"
    classes: tuple[str, ...]
    idx: tuple[int, ...]
    labels: tuple[int, ...]  # into classes
    read: Callable[[int], bytes]  # position in this object, not idx -> the file's bytes

    def __len__(self) -> int:
        return len(self.idx)

    def digest(self) -> str:
        """ "sha256:..." of every idx, class and file: two runs with the same one saw the same images and labels."""
        whole = hashlib.sha256()
        for position, (idx, label) in enumerate(zip(self.idx, self.labels, strict=True)):
            content = hashlib.sha256(self.read(position)).hexdigest()
            whole.update(f"{idx}\t{self.classes[label]}\t{content}\n".encode())
        return f"sha256:{whole.hexdigest()}"

    def part(self, *, limit: int | None = None, shard: tuple[int, int] = (1, 1)) -> DataSet:
        """The first `limit` images, and of these every n-th, beginning with the i-th, for shard (i, n), 1 <= i <= n.

        All shards together are the whole, and each has its share of whatever the order of the images is.
        """
        number, of = shard
        if not 1 <= number <= of:
            raise DataError(f"shard: expected i/n with 1 <= i <= n, got {number}/{of}")
        if limit is not None and limit < 1:
            raise DataError(f"limit: expected at least 1, got {limit}")
        kept = range(len(self))[:limit][number - 1 :: of]
        return DataSet(
            name=self.name,
            split=self.split,
            classes=self.classes,
            idx=tuple(self.idx[i] for i in kept),
            labels=tuple(self.labels[i] for i in kept),
            read=lambda position: self.read(kept[position]),
        )

    def labels_in(self, classes: tuple[str, ...]) -> tuple[int, ...]:
        """`labels` as indices into a bundle's classes, by name. Raises DataError if the bundle lacks one."""
        missing = sorted({self.classes[label] for label in self.labels} - set(classes))
        if missing:
            raise DataError(f"{self.name}: expected classes of the bundle ({', '.join(classes)}), got {missing[0]!r}")
        return tuple(classes.index(self.classes[label]) for label in self.labels)


def open_dataset(name: str, *, part: str | None = None) -> DataSet:
    """`name`: "digits", or the path of an .npz or a folder. part: of digits, one of DIGITS_PARTS (default: held_out).

    Raises DataError when there is no such data, or it is not of its form.
    """
    if name == "digits":
        return _digits(part or "held_out")
    if part is not None:
        raise DataError(f"part: expected none, since only digits has parts; got {part!r} for {name}")
    path = Path(name)
    if path.is_dir():
        return _folder(path)
    if path.is_file() and path.suffix == ".npz":
        return _npz(path)
    raise DataError(f"data set: expected digits, an .npz file or a folder, got {name!r}")


def digits_pixels() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """scikit-learn's 1,797 handwritten digits: (1797, 8, 8) pixels, round(x * 255 / 16), and labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("digits: expected scikit-learn to be installed (pip install scikit-learn)") from error
    raw = load_digits()
    return np.round(raw.images * 255 / _DIGITS_BRIGHTEST).astype(np.uint8), raw.target.astype(np.int64)


def digits_parts(count: int = 1797) -> dict[str, NDArray[np.int64]]:
    """DIGITS_SPLIT: indices by part; a permutation by PCG64 with a fixed seed, cut at 60% and 75%."""
    order = np.random.Generator(np.random.PCG64(_DIGITS_SEED)).permutation(count).astype(np.int64)
    first, second = round(0.60 * count), round(0.75 * count)
    return dict(zip(DIGITS_PARTS, (order[:first], order[first:second], order[second:]), strict=True))


def _digits(part: str) -> DataSet:
    if part not in DIGITS_PARTS:
        raise DataError(f"part: expected one of {', '.join(DIGITS_PARTS)}, got {part!r}")
    pixels, labels = digits_pixels()
    idx = tuple(int(i) for i in digits_parts()[part])

    def read(position: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels[idx[position]]).save(buffer, "PNG")
        return buffer.getvalue()

    return DataSet(
        name="digits",
        split=f"{DIGITS_SPLIT}:{part}",
        classes=tuple(str(digit) for digit in range(10)),
        idx=idx,
        labels=tuple(int(labels[i]) for i in idx),
        read=read,
    )


def _npz(path: Path) -> DataSet:
    """Arrays jpeg (uint8, the files one after another), offsets (n + 1), labels (n) and classes (names)."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if missing := [name for name in _ARRAYS if name not in stored]:
                raise DataError(f"{path}: expected arrays {', '.join(_ARRAYS)}, and there is no {missing[0]}")
            jpeg, offsets, labels, classes = (stored[name] for name in _ARRAYS)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: expected an .npz file: {error}") from error
    if jpeg.dtype != np.uint8 or jpeg.ndim != 1:
        raise DataError(f"{path}: jpeg: expected uint8 in one dimension, got {jpeg.dtype} {jpeg.shape}")
    whole = len(offsets) == len(labels) + 1 and offsets[0] == 0 and offsets[-1] == len(jpeg)
    if not whole or (np.diff(offsets.astype(np.int64)) <= 0).any():
        raise DataError(f"{path}: offsets: expected {len(labels) + 1} ascending values from 0 to {len(jpeg)}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise DataError(f"{path}: labels: expected values in [0, {len(classes)}), got up to {labels.max()}")
    return DataSet(
        name=path.stem,
        split="all",
        classes=tuple(str(name) for name in classes),
        idx=tuple(range(len(labels))),
        labels=tuple(int(label) for label in labels),
        read=lambda position: jpeg[int(offsets[position]) : int(offsets[position + 1])].tobytes(),
    )


def _folder(path: Path) -> DataSet:
    """One folder for each class, named after it; files in the order of their names, class after class."""
    classes = tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir()))
    files = [
        (label, file)
        for label, name in enumerate(classes)
        for file in sorted((path / name).iterdir())
        if file.suffix.lower() in _SUFFIXES
    ]
    if not files:
        raise DataError(f"{path}: expected a folder for each class with {', '.join(_SUFFIXES)} files in it")
    return DataSet(
        name=path.name,
        split="all",
        classes=classes,
        idx=tuple(range(len(files))),
        labels=tuple(label for label, _ in files),
        read=lambda position: files[position][1].read_bytes(),
    )
