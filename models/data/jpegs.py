"""An .npz of image files, one after another: a data set in one file, as benchmarks/ writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .dataset import DataSet

__all__ = ("ARRAYS", "open_jpegs")

ARRAYS = ("jpeg", "offsets", "labels", "classes")


def open_jpegs(path: Path, stored: Mapping[str, Any]) -> DataSet:
    """stored: arrays jpeg (uint8, the files one after another), offsets (n + 1), labels (n) and classes (names).

    Raises DataError naming the array that is not so.
    """
    if missing := [name for name in ARRAYS if name not in stored]:
        raise DataError(f"{path}: expected arrays {', '.join(ARRAYS)}, and there is no {missing[0]}")
    jpeg, offsets, labels, classes = (stored[name] for name in ARRAYS)
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
