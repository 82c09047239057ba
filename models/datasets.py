"""Labelled images for `certify dataset`, whatever form they have: data/ has a reader for each."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .data.cifar import is_cifar, open_cifar
from .data.corruptions import is_corruptions, open_corruption, open_npy
from .data.dataset import DataSet
from .data.digits import DIGITS_PARTS, DIGITS_SPLIT, digits_parts, digits_pixels, open_digits
from .data.folders import open_folder
from .data.idx import is_idx, open_idx
from .data.lists import LIST, open_list
from .data.npz import open_npz
from .data.parquet import open_parquet, parquet_files
from .errors import DataError

__all__ = ("DIGITS_PARTS", "DIGITS_SPLIT", "DataSet", "digits_parts", "digits_pixels", "open_dataset", "open_part")

_FORMS = (
    "digits, fashion, an .npz, .npy, .parquet or .csv file, or a folder: of classes, of CIFAR's batches, of IDX or "
    f"parquet files, or with {LIST} or labels.npy"
)


# The first 1,000 test images of Fashion-MNIST, of its ten thousand.
_FASHION, _FASHION_SPLIT = Path(__file__).parent / "data" / "fashion" / "fashion.npz", "first-1000:test"


def open_dataset(name: str, *, part: str | None = None) -> DataSet:
    """`name`: "digits", "fashion", or the path of a file or folder in one of the forms above.

    part: of digits one of DIGITS_PARTS (default: held_out); of data that comes in parts, as train and test, its name
    (default: test). Raises DataError when there is no such data, or it is not of its form.
    """
    if name == "digits":
        return open_digits(part or "held_out")
    if name == "fashion":
        return dataclasses.replace(open_npz(_FASHION, part), split=_FASHION_SPLIT)
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


def open_part(folder: Path, part: str) -> DataSet:
    """The part train or test of a folder, for whoever learns from one and judges by the other.

    In train.npz and test.npz, in two folders of these names, or as `open_dataset` finds it. Raises DataError.
    """
    file, inside = folder / f"{part}.npz", folder / part
    if file.is_file():
        return open_dataset(str(file))
    return open_dataset(str(inside)) if inside.is_dir() else open_dataset(str(folder), part=part)


def _folder(path: Path, part: str | None) -> DataSet:
    try:
        if (path / LIST).is_file():
            return _without_parts(open_list(path / LIST), part)
        if is_cifar(path):
            return open_cifar(path, part)
        if is_idx(path):
            return open_idx(path, part)
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
