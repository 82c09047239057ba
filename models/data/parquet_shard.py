"""One Parquet file of images and labels, read by pyarrow.

Source: https://huggingface.co/docs/datasets/image_dataset, and the feature types in a file's own metadata.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import DataError
from .pictures import read_file

__all__ = ("ParquetShard",)

_IMAGES = ("image", "img", "images", "png", "jpg", "jpeg", "webp", "pixels")
_ERRORS = (OSError, ValueError, NotImplementedError)  # pyarrow's own are of these
_LABELS = ("label", "labels", "fine_label", "class", "target", "cls", "y")


@dataclass(frozen=True, kw_only=True, eq=False)
class ParquetShard:
    path: Path
    file: Any  # pyarrow.parquet.ParquetFile
    image: str  # columns
    label: str
    classes: tuple[str, ...] | None  # from the file's metadata

    @classmethod
    def open(cls, path: Path) -> ParquetShard:
        try:
            file = _pyarrow().ParquetFile(path, memory_map=True)
            schema = file.schema_arrow
            features = _features(schema.metadata or {})
        except _ERRORS as error:
            raise DataError(f"{path}: expected a Parquet file: {error}") from error
        images = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"] or [
            name for name in schema.names if _holds_bytes(schema.field(name).type)
        ]
        labels = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
        image = next((name for name in (*_IMAGES, *images) if name in images), None)
        label = next((name for name in (*_LABELS, *labels) if name in (labels or schema.names)), None)
        if image is None or label is None:
            columns = ", ".join(f"{name} ({schema.field(name).type})" for name in schema.names)
            raise DataError(f"{path}: expected columns image {{bytes, path}} and label, got {columns}")
        names: object = features.get(label, {}).get("names")
        classes = tuple(map(str, names)) if isinstance(names, list) else None
        return cls(path=path, file=file, image=image, label=label, classes=classes)

    @property
    def rows(self) -> int:
        return int(self.file.metadata.num_rows)

    def labels(self) -> Sequence[Any]:
        try:
            column = self.file.read(columns=[self.label]).column(self.label)
        except _ERRORS as error:
            raise DataError(f"{self.path}: {self.label}: cannot be read: {error}") from error
        if column.null_count:
            raise DataError(f"{self.path}: {self.label}: expected a label in each row, got {column.null_count} nulls")
        values: list[Any] = column.to_pylist()
        return values

    def read(self, row: int) -> bytes:
        group = 0
        while row >= (rows := self.file.metadata.row_group(group).num_rows):
            row, group = row - rows, group + 1
        cell = _group(self, group)[row].as_py()
        data = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if isinstance(data, bytes):
            return data
        path = cell.get("path") if isinstance(cell, Mapping) else None  # Hugging Face's other form: a file beside it
        if not path or Path(path).is_absolute() or ".." in Path(path).parts:
            raise DataError(f"{self.path}: {self.image}: expected an image's bytes, got {path or type(data).__name__}")
        return read_file(self.path.parent / path)


@functools.lru_cache(maxsize=1)
def _group(shard: ParquetShard, group: int) -> Any:
    """A row group's images, as the file's bytes."""
    try:
        return shard.file.read_row_group(group, columns=[shard.image]).column(shard.image)
    except _ERRORS as error:
        raise DataError(f"{shard.path}: {shard.image}: row group {group} cannot be read: {error}") from error


def _holds_bytes(kind: Any) -> bool:
    names = [kind.field(at).name for at in range(kind.num_fields)] if str(kind).startswith("struct") else []
    return "bytes" in names or str(kind) in ("binary", "large_binary")


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """Hugging Face's feature types by column; none where the file says nothing that can be read."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: feature for name, feature in features.items() if isinstance(feature, dict)}


def _pyarrow() -> Any:
    try:
        return import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError("parquet: expected pyarrow, which reads it (pip install 'certify[data]')") from error
