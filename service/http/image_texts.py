"""An image as text: base64 (RFC 4648), with either alphabet, with or without padding, line breaks or a data URL's head.

Canvas and FileReader make data URLs, JOSE libraries and URL-safe encoders the other alphabet without padding, MIME
encoders lines. Each has one meaning, so all are read.
"""

from __future__ import annotations

import binascii
import re

from ..errors import RequestError

__all__ = ("DATA_URL", "decode_image_text")

# RFC 2397: a media type, parameters, and whether what follows is in base64.
DATA_URL = re.compile(rb"[ \t\r\n]*data:([^,]{0,200}),", re.IGNORECASE)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_BLANKS = b" \t\r\n\v\f"
# What base64 and its line breaks may be in a URL.
_ESCAPES = {b"%2B": b"+", b"%2F": b"/", b"%3D": b"=", b"%0D": b"", b"%0A": b""}


def decode_image_text(text: bytes) -> bytes:
    """The image file's bytes. Raises RequestError `image_undecodable`, with what to send instead."""
    if head := DATA_URL.match(text):
        if not head[1].lower().endswith(b";base64"):
            raise _refused("got a data URL without `;base64`; send data:image/png;base64,...")
        text = text[head.end() :]
        for escape, meant in _ESCAPES.items():
            text = text.replace(escape, meant).replace(escape.lower(), meant)
    elif text[:8].lower().startswith((b"http://", b"https://", b"blob:", b"file:")):
        raise _refused("got an address; send the file's bytes, nothing is fetched from here")
    text = text.translate(_URL_SAFE, _BLANKS)  # the same object where nothing changes
    whole = len(text) // 4 * 4
    rest = text[whole:]
    try:
        if not rest:
            return binascii.a2b_base64(text, strict_mode=True)
        # Padding is missing. The rest alone is padded: megabytes are not copied to be refused.
        if text[whole - 1 : whole] == b"=":
            raise binascii.Error("Excess data after padding")
        with memoryview(text) as view:
            data = binascii.a2b_base64(view[:whole], strict_mode=True)
        del text
        return data + binascii.a2b_base64(rest + b"=" * (4 - len(rest)), strict_mode=True)
    except binascii.Error as exc:
        raise _refused(f"{exc}; send the whole file in base64, or the file itself in a form") from None


def _refused(got: str) -> RequestError:
    return RequestError("image_undecodable", f"image: expected base64 (RFC 4648), {got}", field="image")
