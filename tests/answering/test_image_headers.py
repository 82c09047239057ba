"""What a file is that is none of our formats: whoever sent it is told, and what to do."""

from __future__ import annotations

import base64

import pytest

from certify.service.answering.image_headers import read_header
from certify.service.errors import RequestError
from tests import pictures

PNG, JPEG = pictures.png(), pictures.encoded(pictures.gray(), "JPEG")
OTHERS = {
    "of an iPhone": (b"\0\0\0\x24ftypheic" + bytes(100), "HEIC; save it as JPEG"),
    "AVIF": (pictures.encoded(pictures.gray(size=(16, 16)), "AVIF"), "AVIF; save it as JPEG"),
    "a film": (b"\0\0\0\x18ftypmp42" + bytes(100), "a film"),
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
