"""Labelled images for `certify dataset`, whatever form they have: data/ has a reader for each."""

from __future__ import annotations

from pathlib import Path

from .data.cifar import is_cifar, open_cifar
from .data.corruptions import is_corruptions, open_corruption, open_npy
from .data.dataset import DataSet
from .data.digits import DIGITS_PARTS, DIGITS_SPLIT, digits_parts, digits_pixels, open_digits
from .data.folders import open_folder
from .data.lists import LIST, open_list
from .data.npz import open_npz
from .data.parquet import open_parquet, parquet_files
from .errors import DataError

__all__ = ("DIGITS_PARTS", "DIGITS_SPLIT", "DataSet", "digits_parts", "digits_pixels", "open_dataset")

_FORMS = (
    "digits, an .npz, .npy, .parquet or .csv file, or a folder: of classes, of CIFAR's batches, of parquet files, "
    f"or with {LIST} or labels.npy"
)


def open_dataset(name: str, *, part: str | None = None) -> DataSet:
    """`name`: "digits", or the path of a file or folder in one of the forms above.

    part: of digits one of DIGITS_PARTS (default: held_out); of data that comes in parts, as train and test, its name
    (default: test). Raises DataError when there is no such data, or it is not of its form.
    """
    if name == "digits":
        return open_digits(part or "held_out")
    path = Path(name)
    if path.is_dir():
        return _folder(path, part)
    if not path.is_file():
        raise DataError(f"data set: expected {_FORMS}; got {name!r}, and there is no such file")
    match path.suffix.lower():
        case ".npz":
            return open_npz(path, part)
        case ".npy":
            return open_npy(path, part)
        case ".parquet":
            return open_parquet(path, part)
        case ".csv" | ".tsv":
            return _without_parts(open_list(path), part)
    raise DataError(f"data set: expected {_FORMS}; got {name!r}")


def _folder(path: Path, part: str | None) -> DataSet:
    try:
        if (path / LIST).is_file():
            return _without_parts(open_list(path / LIST), part)
        if is_cifar(path):
            return open_cifar(path, part)
        if is_corruptions(path):
            return open_corruption(path, part)
        if parquet_files(path):
            return open_parquet(path, part)
        return _without_parts(open_folder(path), part)
    except OSError as error:
        raise DataError(f"{path}: expected a folder that can be read: {error}") from error


def _without_parts(data: DataSet, part: str | None) -> DataSet:
    if part is not None:
        raise DataError(f"part: expected none, since {data.name} has no parts; got {part!r}")
    return data
