"""An .npz: image files one after another (jpegs.py), or arrays of pixels as Keras and MedMNIST keep them.

numpy runs nothing of it (allow_pickle=False), and of its arrays only those that are asked for are read, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import said_by_numpy
from .arrays import BROKEN, of_arrays, words_of
from .dataset import DataSet, choose_part
from .jpegs import ARRAYS, open_jpegs

__all__ = ("open_npz",)

_PARTS = ("train", "test", "val", "valid", "validation")
_IMAGES = ("x", "image", "images", "img", "imgs", "data")
_LABELS = ("y", "label", "labels", "target", "targets")
_NAMES = ("classes", "class_names", "label_names")


def open_npz(path: Path, part: str | None) -> DataSet:
    """Files one after another (jpegs.py), or arrays named as x_test and y_test, or test_images and test_labels.

    Raises DataError naming the array that is missing or of another shape.
    """
    try:
        # Of a damaged file numpy would leave the stream open, and warn of sides whose product is no number.
        with np.errstate(invalid="ignore"), open(path, "rb") as stream:
            stored = np.load(stream, allow_pickle=False)
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: expected an .npz file, got a single array")
            with stored:
                return _of_stored(path, stored, part)
    except BROKEN as error:
        raise DataError(f"{path}: expected an .npz file: {said_by_numpy(error)}") from error


def _of_stored(path: Path, stored: np.lib.npyio.NpzFile, part: str | None) -> DataSet:
    if "jpeg" in stored.files:
        if part is not None:
            raise DataError(f"part: expected none of an .npz of JPEGs, got {part!r} for {path}")
        return open_jpegs(path, {name: stored[name] for name in ARRAYS if name in stored.files})
    pairs = _pairs(stored.files)
    if not pairs:
        raise DataError(
            f"{path}: expected arrays x_test and y_test (Keras), test_images and test_labels (MedMNIST), or "
            f"{', '.join(ARRAYS)}; got {', '.join(stored.files[:12]) or 'none'}"
        )
    part = choose_part(pairs, part, path)
    images, labels = pairs[part]
    names = next((stored[name] for name in _NAMES if name in stored.files), None)
    return of_arrays(
        stored[images],
        stored[labels],
        name=path.stem,
        split=part,
        classes=None if names is None else words_of(names),
        where=(f"{path}, {images}", f"{path}, {labels}"),
    )


def _pairs(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """{part: (array of images, array of labels)}; part "all" where names say none."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        words = name.lower().split("_")
        part = next((word for word in words if word in _PARTS), "all")
        rest = "_".join(word for word in words if word != part)
        for kind, known in (("images", _IMAGES), ("labels", _LABELS)):
            if rest in known:
                found.setdefault(part, {}).setdefault(kind, name)
    return {part: (both["images"], both["labels"]) for part, both in found.items() if len(both) == 2}
