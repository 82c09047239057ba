"""Pictures that stand for the others: which rows they are of, and the pictures small enough for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ....models.data.pictures import MAX_PIXELS
from ....models.datasets import DataSet
from ...answering.images import decode_image
from ...errors import DataError, RequestError
from .figures import Rows
from .schemas import Example

__all__ = ("choose_examples", "thumbnails")

EACH = 8  # of a kind: a row on paper
# Pixels of a side: what a row of eight on A4 shows at 150 dots an inch.
_SIDE = 128


def choose_examples(rows: Rows, classes: Sequence[str]) -> list[Example]:
    """Certified ones evenly from the largest radius to the smallest; wrong ones from the largest down; abstentions
    evenly through the data. classes: names as shown.
    """
    by_radius = np.argsort(-rows.radius, kind="stable")
    right, wrong = rows.right[by_radius], (rows.certified & ~rows.right)[by_radius]
    chosen = {
        "certified": _evenly(by_radius[right]),
        "wrong": by_radius[wrong][:EACH],
        "abstained": _evenly(np.flatnonzero(~rows.certified & (rows.outcome != "invalid"))),
    }
    return [_example(kind, rows, at, classes) for kind, places in chosen.items() for at in places.tolist()]


def thumbnails(
    examples: Sequence[Example], dataset: DataSet, shape: tuple[int, int, int], *, resize: bool
) -> Mapping[int, str]:
    """idx -> the certified pixels as a data: URL of a PNG. dataset: as it was certified. An image that can be read no
    more is left out.
    """
    places = {idx: position for position, idx in enumerate(dataset.idx)}
    found = {}
    for idx in sorted({example.idx for example in examples} & places.keys()):
        try:
            data = dataset.read(places[idx])
            picture = decode_image(data, shape, resize=resize, max_pixels=MAX_PIXELS)
        except (DataError, RequestError):
            continue
        found[idx] = _url(np.round(picture.tensor * 255).astype(np.uint8))
    return found


def _evenly(places: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(places) <= EACH:
        return places
    return places[np.linspace(0, len(places) - 1, EACH).round().astype(np.int64)]


def _example(kind: str, rows: Rows, at: int, classes: Sequence[str]) -> Example:
    predicted = int(rows.predict[at])
    return Example.model_validate(
        {
            "kind": kind,
            "idx": int(rows.idx[at]),
            "label": classes[int(rows.label[at])],
            "certified": classes[predicted] if rows.certified[at] else None,
            "radius": float(rows.radius[at]),
            "reason": str(rows.reason[at]) or None,
        }
    )


def _url(pixels: NDArray[np.uint8]) -> str:
    """pixels: (C, H, W)."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
