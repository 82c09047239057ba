"""What a file is that is none of our formats: whoever sent it is told, and what to do."""

from __future__ import annotations

import base64
import gzip

import pytest

from certify.service.answering.image_headers import read_header
from certify.service.answering.images import decode_image
from certify.service.errors import RequestError
from tests import pictures

PNG, JPEG = pictures.png(), pictures.encoded(pictures.gray(), "JPEG")
OTHERS = {
    "of an iPhone": (b"\0\0\0\x24ftypheic" + bytes(100), "HEIC; save it as JPEG"),
    "AVIF": (pictures.encoded(pictures.gray(size=(16, 16)), "AVIF"), "AVIF; save it as JPEG"),
    "a film": (b"\0\0\0\x18ftypmp42" + bytes(100), "a film"),
    "a burst of an iPhone": (b"\0\0\0\x24ftyphevc" + bytes(100), "HEIC; save it as JPEG"),
    "large TIFF": (b"II+\0\x08\0\0\0" + bytes(100), "TIFF"),
    "JPEG XL in a container": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100), "JPEG XL"),
    "JPEG 2000 without one": (b"\xff\x4f\xff\x51" + bytes(100), "JPEG 2000"),
    "an icon": (pictures.encoded(pictures.gray(size=(16, 16)), "ICO"), "an icon (ICO)"),
    "Photoshop": (b"8BPS\0\x01" + bytes(100), "a Photoshop file"),
    "an array": (b"\x93NUMPY\x01\0" + bytes(100), "an array of NumPy"),
    "gzip": (gzip.compress(PNG), "a gzip file"),
    "DICOM": (bytes(128) + b"DICM" + bytes(100), "DICOM"),
    "an iPhone app's PNG": (PNG[:8] + b"\0\0\0\x04CgBI" + bytes(8) + PNG[8:], "Xcode's own PNG (CgBI)"),
    "GIF": (pictures.encoded(pictures.gray(), "GIF"), "GIF"),
    "BMP": (pictures.encoded(pictures.gray(), "BMP"), "BMP"),
    "TIFF": (pictures.encoded(pictures.gray(), "TIFF"), "TIFF"),
    "SVG": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "a page": (b"\xef\xbb\xbf\n<!DOCTYPE html><title>404</title>", "a page"),
    "a data URL": (b"data:image/png;base64," + base64.b64encode(PNG), "base64 text; send the file's bytes"),
    "base64": (base64.b64encode(JPEG), "base64 text; send the file's bytes"),
    "PNG read as text": (PNG.decode("utf-8", "replace").encode(), "read and send it as bytes"),
    "PNG with other line ends": (PNG.replace(b"\n", b"\r\n"), "read and send it as bytes"),
    "JPEG read as text": (JPEG.decode("latin-1").encode(), "read and send it as bytes"),
    "something else": (b"no image at all", "other bytes"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_it_is_instead_is_named(name: str) -> None:
    data, said = OTHERS[name]
    with pytest.raises(RequestError, match="image: expected PNG, JPEG or WebP, got ") as caught:
        read_header(data)
    assert caught.value.code == "unsupported_format" and said in caught.value.detail


@pytest.mark.parametrize(("marker", "bits", "said"), [(0xC1, 12, "12-bit samples"), (0xC3, 8, "a lossless or hier")])
def test_a_jpeg_that_nothing_reads_is_unsupported_and_not_damaged(marker: int, bits: int, said: str) -> None:
    at = JPEG.index(b"\xff\xc0")
    odd = JPEG[: at + 1] + bytes([marker]) + JPEG[at + 2 : at + 4] + bytes([bits]) + JPEG[at + 5 :]
    with pytest.raises(RequestError, match=f"expected 8-bit gray, RGB or palette, got {said}") as caught:
        read_header(odd)
    assert caught.value.code == "unsupported_format"


def test_a_damaged_picture_is_told_of_without_a_place_in_memory() -> None:
    for damaged in (PNG[:29] + bytes(4) + PNG[33:], PNG[:16] + bytes(8) + PNG[24:]):
        with pytest.raises(RequestError, match=r"cannot be decoded \(UnidentifiedImageError: .*file\)$") as caught:
            decode_image(damaged, (1, 8, 8), resize=False, max_pixels=2**20)
        assert caught.value.code == "image_undecodable"
