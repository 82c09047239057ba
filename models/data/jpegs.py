"""An .npz of image files, one after another: a data set in one file, as benchmarks/ writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .arrays import integer_labels, words_of
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
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or classes.ndim != 1:
        raise DataError(f"{path}: offsets, classes: expected whole numbers and names, each in one dimension")
    truth = integer_labels(labels, f"{path}: labels")
    whole = len(offsets) == len(truth) + 1 and offsets[0] == 0 and offsets[-1] == len(jpeg)
    if not whole or (np.diff(offsets.astype(np.int64)) <= 0).any():
        raise DataError(f"{path}: offsets: expected {len(truth) + 1} ascending values from 0 to {len(jpeg)}")
    if max(truth, default=-1) >= len(classes):
        raise DataError(f"{path}: labels: expected values in [0, {len(classes)}), got up to {max(truth)}")
    return DataSet(
        name=path.stem,
        split="all",
        classes=words_of(classes),
        idx=tuple(range(len(truth))),
        labels=truth,
        read=lambda position: jpeg[int(offsets[position]) : int(offsets[position + 1])].tobytes(),
    )
