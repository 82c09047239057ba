"""What an endpoint answered, and whether it is an answer: one class for each picture, or an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RemoteError

__all__ = ("Answer", "Passing", "from_json", "read_answer")


class Passing(Exception):
    """A call failed of what may pass by itself; the same pictures may be sent again."""

    def __init__(self, why: str, retry_after: float | None = None) -> None:
        super().__init__(why)
        self.retry_after = retry_after  # seconds, as the endpoint asked for


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Of one call, of pictures in their order."""

    labels: NDArray[np.int64]  # (N,)
    scores: NDArray[np.float64] | None = None  # (N, K), where the endpoint gives them
    version: str = ""  # of the model, if the answer says so


def read_answer(values: NDArray[Any], kind: str, count: int, classes: int, version: str = "") -> Answer:
    """The classes of `count` pictures. values: as they came, of any shape and type. Raises RemoteError.

    Of scores the largest wins, ties go to the lowest class. A score that is no finite number is no vote.
    """
    if kind == "labels":
        if values.shape == (count, 1):
            values = values[:, 0]
        if values.dtype.kind not in "iu" or values.shape != (count,):
            raise RemoteError(f"expected {count} whole numbers, a class of each picture, got {_described(values)}")
        wrong = (values < 0) | (values >= classes)
        if wrong.any():
            raise RemoteError(f"expected classes 0 to {classes - 1}, got {values[wrong][0]}")
        return Answer(labels=values.astype(np.int64), version=version)
    if values.dtype.kind not in "fiu" or values.shape != (count, classes):
        raise RemoteError(f"expected {count} x {classes} scores, got {_described(values)}")
    scores = values.astype(np.float64)
    if not (finite := np.isfinite(scores)).all():
        row, place = (int(each[0]) for each in np.nonzero(~finite))
        raise RemoteError(f"expected finite scores, got {scores[row, place]} for picture {row}, class {place}")
    return Answer(labels=scores.argmax(axis=1), scores=scores, version=version)


def from_json(values: object, kind: str, names: Sequence[str], count: int, version: str = "") -> Answer:
    """As read_answer, of lists as JSON has them; a label may be a class's name. Raises RemoteError."""
    if kind == "labels" and isinstance(values, list):
        places = {name: place for place, name in enumerate(names)}
        for value in values:
            if isinstance(value, str) and value not in places:
                raise RemoteError(f"labels: expected names of classes, as {names[0]!r}, got {value[:100]!r}")
        values = [places[value] if isinstance(value, str) else value for value in values]
    _refuse_other_values(values, depth=3)
    try:
        array = np.array(values)
    except ValueError:  # rows of different lengths
        raise RemoteError("expected rows of one length, got others") from None
    return read_answer(array, kind, count, len(names), version)


def _refuse_other_values(values: object, *, depth: int) -> None:
    """numpy would read true as 1 and null as NaN. Raises RemoteError."""
    if isinstance(values, list) and depth > 0:
        for value in values:
            _refuse_other_values(value, depth=depth - 1)
    elif type(values) not in (int, float):
        raise RemoteError(f"expected lists of numbers, got {str(values)[:100]!r} among them")


def _described(values: NDArray[Any]) -> str:
    return f"{values.dtype} {values.shape}"
