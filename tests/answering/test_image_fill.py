"""JPEGs may have fill, bytes of 0xFF, before any marker."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from certify.service.answering.images import decode_image
from certify.service.errors import RequestError
from tests import pictures

PLACES = pytest.mark.parametrize("place", [2, -2], ids=["before a segment", "after the scan"])


def tensor(place: int, fill: int) -> NDArray[np.float32]:
    """Of a good JPEG with so many bytes of fill before the marker at `place`."""
    good = pictures.encoded(pictures.gray(), "JPEG")
    place %= len(good)
    data = good[:place] + b"\xff" * fill + good[place:]
    return decode_image(data, (1, 8, 8), resize=False, max_pixels=10_000).tensor


@PLACES
def test_a_few_bytes_of_fill_are_as_good_as_none(place: int) -> None:
    assert np.array_equal(tensor(place, 100), tensor(place, 0))


@PLACES
def test_megabytes_of_it_are_refused(place: int) -> None:
    with pytest.raises(RequestError, match="at most 1024 fill bytes"):
        tensor(place, 2_000_000)
