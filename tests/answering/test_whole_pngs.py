"""A PNG is certified as it was written, or not at all: its chunks' checksums and its end are looked at."""

from __future__ import annotations

import pytest

from certify.service.answering.images import Picture, decode_image
from certify.service.errors import RequestError
from tests import pictures


def decode(data: bytes) -> Picture:
    return decode_image(data, (1, 8, 8), resize=False, max_pixels=64)


def code_of(data: bytes) -> str:
    with pytest.raises(RequestError) as caught:
        decode(data)
    return caught.value.code


@pytest.mark.parametrize("colour", ["L", "RGB", "P"])
def test_a_png_that_is_not_as_it_was_written_is_refused(colour: str) -> None:
    good = pictures.encoded(pictures.gray(size=(8, 8)).convert(colour))
    pixels = good.index(b"IDAT")
    for at in range(pixels, len(good)):
        turned = bytearray(good)
        turned[at] ^= 0x01
        assert code_of(bytes(turned)) == "image_undecodable", at
        assert code_of(good[:at]) == "image_undecodable", at
    assert decode(good + b"what stands behind it").sha256 == decode(good).sha256
