"""Parquet files of images, as Hugging Face's data sets are kept: an image {bytes, path} and a label in each row.

One row group is in memory at a time.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from ..errors import DataError
from .arrays import integer_labels
from .dataset import DataSet, choose_part
from .parquet_shard import ParquetShard
from .pictures import as_served

__all__ = ("open_parquet", "parquet_files")

# train-00000-of-00002.parquet, test-00000-of-00001-0123abcd.parquet
_SHARD = re.compile(r"(.+?)-\d+-of-\d+")


def parquet_files(folder: Path) -> list[Path]:
    """Those in a folder, or one or two below, as data/ and default/test/ in a data set's repository; sorted."""
    return sorted(path for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}*.parquet") if path.is_file())


def open_parquet(path: Path, part: str | None) -> DataSet:
    """A file, or a folder of shards. part: what stands before -00000-of-, or a folder's name. Raises DataError."""
    splits: dict[str, list[Path]] = {}
    for file in parquet_files(path) if path.is_dir() else [path]:
        splits.setdefault(_split(file, path), []).append(file)
    part = choose_part(splits, part, path)
    shards = [ParquetShard.open(file) for file in splits[part]]
    first = shards[0]
    for shard in shards:
        if (shard.image, shard.label, shard.classes) != (first.image, first.label, first.classes):
            raise DataError(f"{shard.path}: expected the columns and class names of {first.path.name}, got others")
    labels, classes, named = _labels(shards)
    starts = list(accumulate((shard.rows for shard in shards), initial=0))

    def read(position: int) -> bytes:
        at = bisect_right(starts, position) - 1
        return shards[at].read(position - starts[at])

    return DataSet(
        name=path.resolve().name if path.is_dir() else path.stem,
        split=part,
        classes=classes,
        idx=tuple(range(len(labels))),
        labels=labels,
        read=lambda position: as_served(read(position), f"{path}, row {position} of {part}"),
        stored=read,
        named=named,
    )


def _split(file: Path, top: Path) -> str:
    if match := _SHARD.match(file.stem):
        return match[1]
    if file.stem in ("train", "test", "val", "valid", "validation"):
        return file.stem
    return file.parent.name if file.parent not in (top, top.parent) and file.parent.name != "data" else "all"


def _labels(shards: Sequence[ParquetShard]) -> tuple[tuple[int, ...], tuple[str, ...], bool]:
    """(labels into classes, classes, whether these are names)."""
    values = [value for shard in shards for value in shard.labels()]
    where = f"{shards[0].path}, {shards[0].label}"
    if values and all(isinstance(value, str) for value in values):
        classes = tuple(sorted(set(values)))
        index = {name: at for at, name in enumerate(classes)}
        return tuple(index[value] for value in values), classes, True
    numbers = integer_labels(np.array(values, dtype=None if values else np.int64), where)
    named = shards[0].classes
    if named is not None and max(numbers, default=0) >= len(named):
        raise DataError(f"{where}: expected labels in [0, {len(named)}), got up to {max(numbers)}")
    return numbers, named or tuple(map(str, range(max(numbers, default=0) + 1))), named is not None
