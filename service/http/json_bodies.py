"""A JSON body -> its values and its image.

Python objects are many times as large as the JSON they come from. So the image's text, nearly all of an honest body,
is taken out as bytes first, and only a rest of at most 64 KiB with a bounded number of values is parsed.
"""

from __future__ import annotations

import json
import re

from ..answering.fields import integer, number, shown
from ..errors import RequestError
from .image_texts import decode_image_text

__all__ = ("parse_json",)

# All but the image. Every field at its longest takes a tenth of it.
_MAX_REST_BYTES = 64 * 1024
# Two lists of 64 values are the most that this API has; more than them, so that a list that is too long is named.
_MAX_VALUES = 4096
_VALUE_MARKS = b"[{,:"
_IMAGE = re.compile(rb'"image"[ \t\r\n]*:[ \t\r\n]*"')
_CONTROLS = bytes(range(0x20))
# Escapes that encoders put into base64: PHP's slash, .NET's plus, line breaks (RFC 2045). Each stands for what is right
# of it. JSON lets hexadecimal digits be of either case.
_ESCAPES = {
    b"\\/": b"/",
    b"\\u002b": b"+",
    b"\\u002B": b"+",
    b"\\u002f": b"/",
    b"\\u002F": b"/",
    b"\\u003d": b"=",
    b"\\u003D": b"=",
    b"\\n": b"",
    b"\\r": b"",
    b"\\t": b"",
}


def parse_json(body: bytes) -> tuple[dict[str, object], bytes | None]:
    """The values without the image, and the image's bytes or None. Raises RequestError."""
    rest, taken = _take_image(body)
    marks = len(rest) - len(rest.translate(None, _VALUE_MARKS))
    if marks > _MAX_VALUES:
        raise _malformed(f"expected at most {_MAX_VALUES} values, got about {marks}")
    try:
        values = json.loads(rest.decode("utf-8"), parse_int=integer, parse_float=number, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        reason = "nested too deeply" if isinstance(exc, RecursionError) else str(exc) if rest else "got zero bytes"
        raise _malformed(f"expected a JSON object, {shown(reason)}") from None
    if not isinstance(values, dict):
        raise _malformed(f"expected a JSON object, got {type(values).__name__}")
    text = values.pop("image", None)
    if text is None:
        return values, None
    if not isinstance(text, str):
        raise RequestError("out_of_range", f"image: expected base64 text, got {type(text).__name__}", field="image")
    # surrogatepass: a lone one is no base64 either, and says so by the same error.
    return values, decode_image_text(text.encode("utf-8", "surrogatepass") if taken is None else _unescape(taken))


def _take_image(body: bytes) -> tuple[bytes, bytes | None]:
    """The body with `"image": ""`, and what stood between these quotes; a short body stays whole, with None."""
    if len(body) <= _MAX_REST_BYTES:
        return body, None
    for key in _IMAGE.finditer(body, 0, _MAX_REST_BYTES):
        start, end = key.end(), body.find(b'"', key.end())  # base64 has no quotes
        if end >= 0 and len(body) - (end - start) <= _MAX_REST_BYTES:
            return body[:start] + body[end:], body[start:end]
    raise _malformed(f"expected at most {_MAX_REST_BYTES} bytes of JSON beside the text of image")


def _unescape(text: bytes) -> bytes:
    """JSON's escapes in base64, without a Python string of the image's size, of four bytes a character at worst."""
    if len(text.translate(None, _CONTROLS)) < len(text):
        raise _malformed("expected a JSON object, a line break or another control character in a string is not escaped")
    # Without an escaped backslash each one begins an escape, and replacing one makes no other.
    if b"\\" in text and b"\\\\" not in text:
        for escape, meant in _ESCAPES.items():
            text = text.replace(escape, meant)
    return text


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is given twice")
    return values


def _malformed(what: str) -> RequestError:
    return RequestError("malformed_body", f"body: {what}")
