"""Formats that the service does not decode become PNG with the same pixels, or are refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from certify.models.data.pictures import as_served
from certify.service.answering.images import decode_image
from certify.service.errors import DataError
from tests import pictures

RGB = np.random.default_rng(5).integers(0, 256, (8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["BMP", "PPM", "TIFF", "TGA", "PCX", "SGI"])
def test_the_pixels_stay(kind: str) -> None:
    converted = as_served(pictures.encoded(Image.fromarray(RGB), kind), "x")
    tensor = decode_image(converted, (3, 8, 8), resize=False, max_pixels=64).tensor
    assert (np.round(tensor * 255).transpose(1, 2, 0) == RGB).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_what_the_service_decodes_is_handed_on_as_it_is(kind: str) -> None:
    data = pictures.encoded(Image.fromarray(RGB), kind)
    assert as_served(data, "x") is data


def test_a_turned_tiff_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = pictures.encoded(Image.fromarray(RGB[:, :4]), "TIFF", exif=exif)
    tensor = decode_image(as_served(data, "x"), (3, 4, 8), resize=False, max_pixels=64).tensor
    assert (np.round(tensor * 255).transpose(1, 2, 0) == np.rot90(RGB[:, :4], -1)).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pictures.animation("GIF"), "expected one frame, got 2"),
        (pictures.encoded(Image.fromarray(RGB[..., 0].astype(np.uint16) * 257), "TIFF"), ".*got mode I;16"),
        (b"P6 2 2 65535\n" + bytes(24), "expected 8-bit gray, RGB or palette, got more bits"),
        (pictures.encoded(Image.new("CMYK", (8, 8)), "TIFF"), ".*got mode CMYK"),
        (pictures.encoded(Image.fromarray(RGB), "BMP")[:90], "expected an image that Pillow decodes"),
        (b"P5 9000 9000 255\n", "expected at most 67108864 pixels, got 9000 x 9000"),
        (b"no image", "expected an image that Pillow decodes, got UnidentifiedImageError"),
        (b"", "expected an image that Pillow decodes"),
    ],
)
def test_what_would_be_a_choice_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"x.gif: {message}"):
        as_served(data, "x.gif")


def test_sixteen_bits_in_colour_are_not_cut_in_silence() -> None:
    """Pillow writes none, so the file is made by hand: one strip of one pixel."""
    entries = [(256, 4, 1, 1), (257, 4, 1, 1), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 210),
               (277, 3, 1, 3), (278, 4, 1, 1), (279, 4, 1, 6)]  # fmt: skip
    directory = len(entries).to_bytes(2, "little") + b"".join(
        b"".join(value.to_bytes(size, "little") for value, size in zip(entry, (2, 2, 4, 4), strict=True))
        for entry in entries
    )
    data = io.BytesIO(b"II*\0\x08\0\0\0" + directory + bytes(4))
    data.seek(200)
    data.write(b"\x10\0\x10\0\x10\0".ljust(10, b"\0") + b"\x34\x12" * 3)
    with pytest.raises(DataError, match="got more bits"):
        as_served(data.getvalue(), "x.tif")
