"""A request's bytes -> its fields and its image. JSON and multipart carry the same fields; this file is the difference.

In a form every value is text: answering/fields.py reads it as its field's type, and checks it as it does JSON.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterable
from dataclasses import dataclass

import python_multipart.multipart as multipart

from ..answering.fields import check_fields, integer, read_field, shown
from ..answering.schemas import CertifyFields
from ..errors import RequestError
from .forms import Part, parse_form

__all__ = ("Body", "parse_body", "read_limited")


@dataclass(frozen=True, kw_only=True)
class Body:
    fields: CertifyFields
    image: bytes  # of an image file, not yet looked at


async def read_limited(stream: AsyncIterable[bytes], *, declared: str | None, limit: int) -> bytes:
    """The whole body, or RequestError `body_too_large` as soon as it is known to exceed `limit` bytes.

    declared: the Content-Length header. A body that is sent in chunks without one is counted as it comes.
    """
    if declared is not None and declared.isdecimal() and int(declared[:20]) > limit:
        raise _too_large(limit, f"a Content-Length of {declared[:20]}")
    body = bytearray()
    async for piece in stream:
        if len(body) + len(piece) > limit:
            raise _too_large(limit, "more")
        body += piece
    return bytes(body)


def parse_body(body: bytes, *, content_type: str | None, content_encoding: str | None) -> Body:
    """Raises RequestError: unsupported_format, malformed_body, or what is wrong with a field. Takes milliseconds."""
    if content_encoding not in (None, "", "identity"):
        raise RequestError("unsupported_format", f"Content-Encoding: expected none, got {shown(content_encoding)}")
    kind, options = multipart.parse_options_header(content_type)
    if kind == b"application/json":
        values, image = _from_json(body)
    elif kind == b"multipart/form-data":
        values, image = _from_form(body, options.get(b"boundary", b""))
    else:
        raise RequestError(
            "unsupported_format",
            f"Content-Type: expected multipart/form-data or application/json, got {shown(content_type)}",
        )
    # The fields first: a client that misspells `image` is told so.
    fields = check_fields(values)
    if image is None:
        raise RequestError("missing_field", "image: expected a PNG, JPEG or WebP file, got nothing", field="image")
    return Body(fields=fields, image=image)


def _from_json(body: bytes) -> tuple[dict[str, object], bytes | None]:
    try:
        values = json.loads(body.decode("utf-8"), parse_int=integer, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        reason = "nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        raise RequestError("malformed_body", f"body: expected a JSON object, {shown(reason)}") from None
    if not isinstance(values, dict):
        raise RequestError("malformed_body", f"body: expected a JSON object, got {type(values).__name__}")
    text = values.pop("image", None)
    if text is None:
        return values, None
    if not isinstance(text, str):
        raise RequestError("out_of_range", f"image: expected base64 text, got {type(text).__name__}", field="image")
    try:
        # Line breaks are what most encoders put into base64 (RFC 2045); anything else foreign is refused.
        return values, base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as exc:  # ValueError: not ASCII
        raise RequestError("image_undecodable", f"image: expected base64 (RFC 4648, section 4), {exc}") from None


def _from_form(body: bytes, boundary: bytes) -> tuple[dict[str, object], bytes | None]:
    texts: dict[str, list[str]] = {}
    image: bytes | None = None
    for part in parse_form(body, boundary):
        if part.name == "image":
            if image is not None:
                raise RequestError("out_of_range", "image: expected one file, got several", field="image")
            if not part.is_file:
                raise RequestError("missing_field", "image: expected a file part with a filename", field="image")
            image = part.content
        else:
            texts.setdefault(part.name, []).append(_as_text(part))
    return {name: read_field(name, given) for name, given in texts.items()}, image


def _as_text(part: Part) -> str:
    try:
        return part.content.decode("utf-8").strip()
    except UnicodeDecodeError:
        name = shown(part.name)
        raise RequestError("out_of_range", f"{name}: expected UTF-8 text", field=name) from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is given twice")
    return values


def _too_large(limit: int, got: str) -> RequestError:
    return RequestError("body_too_large", f"body: expected at most {limit} bytes, got {got}", max_body_bytes=limit)
