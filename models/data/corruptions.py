"""CIFAR-10-C's form: a folder with an array for each corruption, fog.npy, and labels.npy beside them.

Source: https://zenodo.org/records/2535967: uint8 (50000, 32, 32, 3), severities 1 to 5 one after another.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError
from .arrays import load_npy, of_arrays
from .dataset import DataSet, choose_part

__all__ = ("is_corruptions", "open_corruption", "open_npy")

_LABELS = "labels.npy"
_SEVERITIES = 5


def is_corruptions(folder: Path) -> bool:
    return (folder / _LABELS).is_file()


def open_corruption(folder: Path, part: str | None) -> DataSet:
    """part: fog, or fog:3 for one severity; unasked, the only array there. Raises DataError."""
    arrays = {path.stem: path for path in sorted(folder.glob("*.npy")) if path.name != _LABELS}
    if not arrays:
        raise DataError(f"{folder}: expected an array of images beside {_LABELS}, as fog.npy, and there is none")
    name, _, severity = (part or "").partition(":")
    name = choose_part(arrays, name or None, f"{folder} (or NAME:1 to NAME:{_SEVERITIES}, for one severity)")
    return _with_labels(arrays[name], folder / _LABELS, folder.resolve().name, severity)


def open_npy(path: Path, part: str | None) -> DataSet:
    """An array and its labels: labels.npy beside it, or y_test.npy for x_test.npy, test_labels.npy for test_images.npy.

    part: one severity of CIFAR-10-C, 1 to 5. Raises DataError.
    """
    stem = path.stem
    others = [
        path.with_name(stem.replace(ours, theirs, 1) + ".npy")
        for ours, theirs in (("x_", "y_"), ("X_", "y_"), ("images", "labels"), ("data", "labels"))
        if ours in stem
    ]
    expected = [*others, path.with_name(_LABELS)]
    labels = next((other for other in expected if other.is_file() and other != path), None)
    if labels is None:
        names = " or ".join(other.name for other in expected)
        raise DataError(f"{path}: expected its labels beside it, {names}, and there is no such file")
    return _with_labels(path, labels, path.resolve().parent.name, part or "")


def _with_labels(images: Path, labels: Path, name: str, severity: str) -> DataSet:
    pixels, truth = load_npy(images), load_npy(labels)
    if len(truth.shape) and len(pixels.shape) and len(truth) * _SEVERITIES == len(pixels):
        truth = np.tile(truth, (_SEVERITIES, *(1,) * (truth.ndim - 1)))  # the same images at each severity
    split, idx = images.stem, None
    if severity:
        if severity not in map(str, range(1, _SEVERITIES + 1)) or not pixels.shape or len(pixels) % _SEVERITIES:
            raise DataError(
                f"part: expected a severity from 1 to {_SEVERITIES} of as many equal runs of images in {images}, "
                f"{pixels.shape}, got {severity!r}"
            )
        if len(truth) != len(pixels):
            raise DataError(f"{labels}: expected {len(pixels)} labels, as there are images, got {len(truth)}")
        run = len(pixels) // _SEVERITIES
        idx = range(run * (int(severity) - 1), run * int(severity))
        pixels, truth, split = pixels[idx.start : idx.stop], truth[idx.start : idx.stop], f"{split}:{severity}"
    return of_arrays(pixels, truth, name=name, split=split, idx=idx, where=(images, labels))
