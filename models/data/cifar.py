"""CIFAR-10 and CIFAR-100 as https://www.cs.toronto.edu/~kriz/cifar.html has them: the Python or the binary version.

Rows of 3,072 bytes: 32 x 32 red, then green, then blue. CIFAR-100 is read with its fine labels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .arrays import of_arrays
from .dataset import DataSet, choose_part
from .pictures import read_file
from .unpickle import load_plain

__all__ = ("is_cifar", "open_cifar")

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True, kw_only=True)
class _Version:
    """How one of the four versions names its files and keeps its labels."""

    train: str  # a pattern of file names
    test: str
    meta: str  # the file of class names
    names: str  # their key in it, where it is a pickle
    labels: str  # their key in a batch, where it is a pickle
    label_bytes: int  # before the pixels of a row, where it is binary; the last one is the label


_VERSIONS = (
    _Version(train=r"data_batch_(\d+)", test="test_batch", meta="batches.meta", names="label_names",
             labels="labels", label_bytes=0),
    _Version(train="train", test="test", meta="meta", names="fine_label_names", labels="fine_labels", label_bytes=0),
    _Version(train=r"data_batch_(\d+)\.bin", test=r"test_batch\.bin", meta="batches.meta.txt", names="", labels="",
             label_bytes=1),
    _Version(train=r"train\.bin", test=r"test\.bin", meta="fine_label_names.txt", names="", labels="", label_bytes=2),
)  # fmt: skip


def is_cifar(folder: Path) -> bool:
    return _version(folder) is not None


def open_cifar(folder: Path, part: str | None) -> DataSet:
    """part: test, the default, or train. Raises DataError."""
    version = _version(folder)
    if version is None:
        raise DataError(f"{folder}: expected CIFAR's batches, as test_batch or test_batch.bin, and there are none")
    found = {name: files for name in ("train", "test") if (files := _files(folder, getattr(version, name)))}
    part = choose_part(found, part, folder)
    read: Callable[[Path], tuple[NDArray[Any], NDArray[Any]]] = (
        (lambda path: _binary(path, version)) if version.label_bytes else (lambda path: _pickled(path, version))
    )
    batches = [read(path) for path in found[part]]
    rows = [len(pixels) for pixels, _ in batches]
    pixels = batches[0][0] if len(batches) == 1 else np.concatenate([pixels for pixels, _ in batches])
    where = f"{folder}, {', '.join(path.name for path in found[part])}"
    return of_arrays(
        pixels.reshape(sum(rows), 3, 32, 32),
        np.concatenate([labels for _, labels in batches]),
        name=folder.resolve().name,
        split=part,
        classes=_class_names(folder / version.meta, version),
        where=(where, f"{where}, labels"),
    )


def _version(folder: Path) -> _Version | None:
    """The first of which there are batches; CIFAR-100's `train` and `test` count as files, never as folders."""
    return next((each for each in _VERSIONS if _files(folder, each.test) or _files(folder, each.train)), None)


def _files(folder: Path, pattern: str) -> list[Path]:
    """By the numbers in their names."""
    found = [(match, path) for path in folder.iterdir() if (match := re.fullmatch(pattern, path.name))]
    ordered = sorted(found, key=lambda each: [int(number) for number in each[0].groups()])
    return [path for _, path in ordered if path.is_file()]


def _pickled(path: Path, version: _Version) -> tuple[NDArray[Any], NDArray[Any]]:
    batch = _dict(path)
    rows, labels = batch.get("data"), batch.get(version.labels)
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != _PIXELS:
        got = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise DataError(f"{path}: data: expected uint8 (N, {_PIXELS}), got {got}")
    if not isinstance(labels, list | np.ndarray) or len(labels) != len(rows):
        got = f"{len(labels)}" if isinstance(labels, list | np.ndarray) else f"{type(labels).__name__}"
        raise DataError(f"{path}: {version.labels}: expected {len(rows)} labels, got {got}")
    if not all(type(label) is int for label in labels) and not isinstance(labels, np.ndarray):
        raise DataError(f"{path}: {version.labels}: expected integers")
    return rows, np.asarray(labels, dtype=None if len(labels) else np.int64)


def _binary(path: Path, version: _Version) -> tuple[NDArray[Any], NDArray[Any]]:
    size, row = path.stat().st_size, version.label_bytes + _PIXELS
    if size == 0 or size % row:
        raise DataError(f"{path}: expected rows of {row} bytes, got {size} bytes, which is no multiple")
    rows = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, row)
    return rows[:, version.label_bytes :], np.asarray(rows[:, version.label_bytes - 1], dtype=np.int64)


def _class_names(path: Path, version: _Version) -> Sequence[str] | None:
    """None where the file is missing: the labels are then numbers."""
    if not path.is_file():
        return None
    if version.label_bytes:
        return read_file(path).decode(errors="replace").split()
    names = _dict(path).get(version.names)
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise DataError(f"{path}: {version.names}: expected a list of names, got {type(names).__name__}")
    return [name.decode(errors="replace") if isinstance(name, bytes) else name for name in names]


def _dict(path: Path) -> Mapping[str, Any]:
    """A pickled dict, its keys as text."""
    batch = load_plain(read_file(path), path)
    if not isinstance(batch, dict):
        raise DataError(f"{path}: expected a pickled dict, got {type(batch).__name__}")
    return {key.decode(errors="replace") if isinstance(key, bytes) else str(key): value for key, value in batch.items()}
