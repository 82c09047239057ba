"""Arrays of pixels and labels -> a data set, of which an image becomes a PNG when its turn comes."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files import said_by_numpy
from .dataset import DataSet
from .pictures import png

__all__ = ("BROKEN", "integer_labels", "load_npy", "of_arrays", "words_of")

# What numpy raises for a file that is cut off, damaged or another kind of file.
BROKEN = (
    OSError, ValueError, EOFError, KeyError, NotImplementedError, OverflowError, MemoryError, struct.error,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


# There is a name for each class, and a label that stands for none, as -1 in uint32, would make billions of them. The
# largest public sets have tens of thousands.
MOST_CLASSES = 2**20


def load_npy(path: Path) -> NDArray[Any]:
    """Mapped, not read. Raises DataError."""
    try:
        with np.errstate(invalid="ignore"):  # sides whose product is no number it refuses, and warns besides
            stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except BROKEN as error:
        raise DataError(f"{path}: expected an .npy file of one array: {said_by_numpy(error)}") from error
    if not isinstance(stored, np.ndarray):
        stored.close()
        raise DataError(f"{path}: expected an .npy file of one array, got an .npz")
    return stored


def of_arrays(
    images: NDArray[Any],
    labels: NDArray[Any],
    *,
    name: str,
    split: str,
    where: tuple[object, object],
    classes: Sequence[str] | None = None,
    idx: Sequence[int] | None = None,
) -> DataSet:
    """images: (N, H, W), (N, H, W, C) or (N, C, H, W), integers in [0, 255]; labels: (N,) or (N, 1), integers from 0.

    classes: the labels' names, if known. idx: default 0, 1, ... where: the two arrays, for errors. Raises DataError.
    """
    picture = _checked(images, where[0])
    truth = integer_labels(labels, where[1])
    if len(truth) != len(images):
        raise DataError(f"{where[1]}: expected {len(images)} labels, as there are images, got {len(truth)}")
    if classes is not None and len(truth) and max(truth) >= len(classes):
        raise DataError(f"{where[1]}: expected labels in [0, {len(classes)}), got up to {max(truth)}")
    return DataSet(
        name=name,
        split=split,
        classes=tuple(classes) if classes is not None else tuple(map(str, range(max(truth, default=0) + 1))),
        idx=tuple(idx) if idx is not None else tuple(range(len(truth))),
        labels=truth,
        read=lambda position: png(picture(position)),
        stored=lambda position: _bytes(picture(position)),
        named=classes is not None,
    )


def integer_labels(labels: NDArray[Any], where: object) -> tuple[int, ...]:
    """(N,) or (N, 1) integers from 0 and below MOST_CLASSES -> a tuple. Raises DataError."""
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or flat.dtype.kind not in "iu":
        raise DataError(f"{where}: expected one integer an image, (N,) or (N, 1), got {labels.dtype} {labels.shape}")
    if len(flat) and int(flat.min()) < 0:
        raise DataError(f"{where}: expected labels from 0, got {flat.min()} (hidden labels cannot be certified)")
    if len(flat) and int(flat.max()) >= MOST_CLASSES:
        raise DataError(f"{where}: expected labels below {MOST_CLASSES}, got {flat.max()}")
    return tuple(flat.tolist())


def words_of(names: NDArray[Any]) -> tuple[str, ...]:
    """An array of class names as text; numpy keeps some as bytes."""
    return tuple(name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names.ravel())


def _checked(images: NDArray[Any], where: object) -> Callable[[int], NDArray[np.uint8]]:
    """position -> (H, W) or (H, W, 3) pixels."""
    shape = images.shape
    last = images.ndim == 3 or (images.ndim == 4 and shape[3] in (1, 3))
    first = images.ndim == 4 and shape[1] in (1, 3)
    if not (last or first) or 0 in shape:
        raise DataError(f"{where}: expected images (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W), got {shape}")
    if images.dtype.kind not in "iu":
        raise DataError(
            f"{where}: expected whole numbers in [0, 255] (uint8), got {images.dtype}; if they are pixels over 255: "
            "np.round(x * 255).astype(np.uint8)"
        )
    if images.dtype != np.uint8 and (int(images.min()) < 0 or int(images.max()) > 255):
        raise DataError(f"{where}: expected values in [0, 255], got {images.min()} to {images.max()}")

    def picture(position: int) -> NDArray[np.uint8]:
        pixels = np.asarray(images[position])
        if not last:
            pixels = pixels.transpose(1, 2, 0)
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        return np.ascontiguousarray(pixels, dtype=np.uint8)

    return picture


def _bytes(pixels: NDArray[np.uint8]) -> bytes:
    return f"{pixels.shape}".encode() + pixels.tobytes()
