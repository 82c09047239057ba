"""IDX files as http://yann.lecun.com/exdb/mnist has them: MNIST, Fashion-MNIST, KMNIST, EMNIST; packed or not.

A part is a pair, train-images-idx3-ubyte and train-labels-idx1-ubyte; t10k names the test part. A file is two zero
bytes, its type (8: bytes), the number of its dimensions, each of them as four bytes, big-endian, and the values.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .arrays import of_arrays
from .dataset import DataSet, choose_part

__all__ = ("FASHION", "is_idx", "open_idx")

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# The format has no place for names. SHA-256 of the labels of Fashion-MNIST's two parts: its files are named as MNIST's.
_NAMES = {
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7": FASHION,
    "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9": FASHION,
}
# train-images-idx3-ubyte, t10k-images.idx3-ubyte, emnist-letters-test-images-idx3-ubyte.gz.
_IMAGES = re.compile(r"((?:.+-)?)(train|t10k|test)-images[-.]idx3-ubyte(?:\.gz)?")
_BYTES = 8  # the type of unsigned bytes
# By the number of dimensions. EMNIST, the largest of the kind, has 697,932 training images of 547 MB.
_MOST = {1: 2**24, 3: 2**30}
_MOST_PACKED = 1032  # times smaller: deflate can do no better, so that a header that says more is wrong


def is_idx(folder: Path) -> bool:
    return bool(_pairs(folder))


def open_idx(folder: Path, part: str | None) -> DataSet:
    """part: test, the default, or train; with what stands before it in the files' names, as emnist-letters-test.

    Raises DataError naming the file.
    """
    pairs = _pairs(folder)
    if not pairs:
        raise DataError(f"{folder}: expected IDX files, as t10k-images-idx3-ubyte, and there are none")
    part = choose_part(pairs, part, folder)
    images, labels = pairs[part]
    if not labels.is_file():
        raise DataError(f"{images}: expected its labels beside it, {labels.name}, and there is no such file")
    truth = _read(labels, 1)
    return of_arrays(
        _read(images, 3),
        truth,
        name=folder.resolve().name,
        split=part,
        classes=_NAMES.get(hashlib.sha256(truth.tobytes()).hexdigest()),
        where=(images, labels),
    )


def _pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """{part: (images, labels)}; of a file that lies there packed and unpacked, the unpacked, which need not be read."""
    found: dict[str, tuple[Path, Path]] = {}
    for path in sorted(folder.iterdir()):  # a name stands before its .gz
        match = _IMAGES.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        part = match[1] + ("test" if match[2] == "t10k" else match[2])
        found.setdefault(part, (path, _labels_of(path)))
    return found


def _labels_of(images: Path) -> Path:
    name = images.name.removesuffix(".gz").replace("-images", "-labels").replace("idx3", "idx1")
    plain, packed = images.with_name(name), images.with_name(f"{name}.gz")
    return packed if packed.is_file() and not plain.is_file() else plain


def _read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An array of as many dimensions; mapped, where it is not packed. Raises DataError."""
    try:
        return _unpacked(path, dimensions) if path.suffix == ".gz" else _mapped(path, dimensions)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise DataError(f"{path}: cannot be read as an IDX file: {error}") from error


def _mapped(path: Path, dimensions: int) -> NDArray[np.uint8]:
    with path.open("rb") as stream:
        shape = _shape(stream, dimensions, path)
        head, size = stream.tell(), path.stat().st_size
    if size - head != math.prod(shape):
        raise _other_size(path, shape, f"{size - head}")
    return np.memmap(path, dtype=np.uint8, mode="r", offset=head, shape=shape)


def _unpacked(path: Path, dimensions: int) -> NDArray[np.uint8]:
    packed = path.stat().st_size
    with gzip.open(path) as stream:
        shape = _shape(stream, dimensions, path)
        size = math.prod(shape)
        if size > _MOST_PACKED * packed:
            raise _other_size(path, shape, f"a file of {packed}, which cannot hold them")
        values = stream.read(size)
        if len(values) != size or stream.read(1):
            raise _other_size(path, shape, f"{len(values)}" if len(values) != size else "more")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def _shape(stream: IO[bytes] | gzip.GzipFile, dimensions: int, path: Path) -> tuple[int, ...]:
    """Read the head: each dimension is at least 1, and their product at most _MOST."""
    expected, first = bytes((0, 0, _BYTES, dimensions)), stream.read(4)
    if first != expected:
        raise DataError(
            f"{path}: expected an IDX file of bytes, in dimensions: {dimensions}, which begins {expected.hex(' ')}; "
            f"got {first.hex(' ') or 'an empty file'}"
        )
    lengths = stream.read(4 * dimensions)
    if len(lengths) != 4 * dimensions:
        raise DataError(f"{path}: expected {4 * dimensions} bytes of dimensions, got {len(lengths)}")
    shape = tuple(int.from_bytes(lengths[at : at + 4]) for at in range(0, len(lengths), 4))
    if not 0 < math.prod(shape) <= _MOST[dimensions]:
        raise DataError(f"{path}: dimensions: expected a product from 1 to {_MOST[dimensions]}, got {_by(shape)}")
    return shape


def _other_size(path: Path, shape: tuple[int, ...], got: str) -> DataError:
    return DataError(f"{path}: expected {math.prod(shape)} bytes after its head, {_by(shape)}, got {got}")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
