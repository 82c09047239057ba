"""A request's bytes -> its fields and its image. JSON and multipart carry the same fields.

Whatever a body holds is counted before it is built: time and memory follow the bytes, never the items made of them
(benchmarks/hostile.py).
In a form every value is text: answering/fields.py reads it as its field's type, and checks it as it does JSON.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar
from urllib.parse import unquote_plus

import numpy as np
import python_multipart.multipart as multipart
from numpy.typing import NDArray
from pydantic import BaseModel

from ..answering.fields import check_fields, check_name, read_field, shown
from ..answering.image_headers import begins_as_picture
from ..answering.schemas import CertifyFields
from ..errors import RequestError
from .forms import Part, parse_form
from .image_texts import DATA_URL
from .json_bodies import Named, image_or_error, parse_json, parse_json_batch, too_many

__all__ = (
    "Batch",
    "Body",
    "Named",
    "check_encoding",
    "check_query",
    "parse_as",
    "parse_batch",
    "parse_body",
    "read_limited",
)

# Of one part that is no image. The longest honest one, 64 numbers of 25 characters, takes a tenth of it.
_MAX_FIELD_BYTES = 16 * 1024
# A body is kept in pieces of so much until it is whole.
_BLOCK_BYTES = 64 * 1024
# A boundary and its type take a hundred; the library's parser of options is quadratic in some headers.
_MAX_CONTENT_TYPE = 1024
# RFC 6839, section 3.1: what is JSON by another name.
_JSON_SUFFIX = re.compile(rb"application/[^/ ]+\+json")
# RFC 2045, section 6: how mail libraries write what is not ASCII.
_TRANSFER_DECODERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"base64": binascii.a2b_base64,
    b"quoted-printable": binascii.a2b_qp,
}
_SET_BY_THE_LIBRARY = "let the HTTP library write this header (fetch with FormData, curl -F, files= in Python)"


F = TypeVar("F", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Body(Generic[F]):
    fields: F
    # Of an image file, not yet looked at; or a tensor, (C, H, W) or (1, C, H, W).
    image: bytes | NDArray[np.uint8 | np.float32]


@dataclass(frozen=True, kw_only=True)
class Batch:
    fields: CertifyFields
    images: list[Named]


async def read_limited(
    stream: AsyncIterable[bytes], *, declared: str | None, limit: int, came: Callable[[int], None] = lambda size: None
) -> bytes:
    """The whole body, or RequestError `body_too_large` as soon as it is known to exceed `limit` bytes.

    declared: the Content-Length header. A body that is sent in chunks without one is counted as it comes.
    came: called with the size of each piece before it is kept.
    """
    if declared is not None and declared.isdecimal() and int(declared[:20]) > limit:
        raise _too_large(limit, f"a Content-Length of {declared[:20]}")
    # In blocks: an array that grows while others do is moved each time, and leaves holes that nobody can use.
    blocks, block, size = [], bytearray(), 0
    try:
        async for piece in stream:
            size += len(piece)
            if size > limit:
                raise _too_large(limit, "more")
            came(len(piece))
            if len(piece) >= _BLOCK_BYTES:
                blocks += [bytes(block), piece]
                block.clear()
                continue
            block += piece
            if len(block) >= _BLOCK_BYTES:
                blocks.append(bytes(block))
                block.clear()
        return b"".join([*blocks, block])
    finally:
        blocks.clear()  # an error's traceback keeps this frame until somebody collects it


def parse_body(body: bytes, *, content_type: str | None, content_encoding: str | None) -> Body[CertifyFields]:
    """One image and CertifyFields: see parse_as."""
    return parse_as(CertifyFields, body, content_type=content_type, content_encoding=content_encoding)


def parse_as(model: type[F], body: bytes, *, content_type: str | None, content_encoding: str | None) -> Body[F]:
    """One image and the fields of `model`. Takes milliseconds.

    Raises RequestError: unsupported_format, malformed_body, or what is wrong with a field.
    """
    boundary = _boundary(content_type, content_encoding)
    values, images = parse_json(body) if boundary is None else _from_form(body, boundary, model, most=1)
    # The fields first: a client that misspells `image` is told so.
    fields = check_fields(values, model)
    if not images:
        raise _no_image()
    if isinstance(images[0].image, RequestError):
        raise images[0].image
    return Body(fields=fields, image=images[0].image)


def parse_batch(body: bytes, *, content_type: str | None, content_encoding: str | None, most: int) -> Batch:
    """Up to `most` images and CertifyFields. What is wrong with one image's text is kept in its place.

    Raises RequestError, as parse_body.
    """
    boundary = _boundary(content_type, content_encoding)
    if boundary is None:
        values, images = parse_json_batch(body, most=most)
    else:
        values, images = _from_form(body, boundary, CertifyFields, most=most)
    fields = check_fields(values, CertifyFields)
    if not images:
        raise _no_image()
    return Batch(fields=fields, images=images)


def _boundary(content_type: str | None, content_encoding: str | None) -> bytes | None:
    """Of a form; None: the body is JSON. Raises RequestError for anything else."""
    check_encoding(content_encoding)
    if content_type is not None and len(content_type) > _MAX_CONTENT_TYPE:
        raise RequestError("unsupported_format", f"Content-Type: expected at most {_MAX_CONTENT_TYPE} characters")
    kind, options = multipart.parse_options_header(content_type)
    # Browsers ask before a page of another origin sends any of these, as they do not before text/plain.
    if kind in (b"application/json", b"text/json") or _JSON_SUFFIX.fullmatch(kind):
        return None
    if kind != b"multipart/form-data":
        raise RequestError(
            "unsupported_format",
            f"Content-Type: expected multipart/form-data or application/json, got {shown(content_type)}; send the "
            "image as a form's file (curl -F image=@digit.png), or in base64 as a member of a JSON object",
        )
    if not options.get(b"boundary"):
        raise RequestError(
            "malformed_body",
            f"Content-Type: expected multipart/form-data with its boundary, got none; {_SET_BY_THE_LIBRARY}",
        )
    return options[b"boundary"]


def _no_image() -> RequestError:
    detail = "image: expected a PNG, JPEG or WebP file, got nothing; send one (curl -F image=@digit.png)"
    return RequestError("missing_field", detail, field="image")


def check_encoding(content_encoding: str | None) -> None:
    """Raises RequestError `unsupported_format` for a body that is compressed."""
    if (content_encoding or "identity").strip().lower() != "identity":
        detail = f"Content-Encoding: expected none, got {shown(content_encoding)}; send the body as it is"
        raise RequestError("unsupported_format", detail)


def check_query(query: bytes) -> None:
    """Raises RequestError `unknown_field` for a query string: fields come in the body, and none is to be lost."""
    if query:
        name = shown(unquote_plus(query[:400].decode("latin-1")).partition("&")[0].partition("=")[0])
        detail = f"{name}: expected in the body, as a form's field or a JSON member, got it in the query"
        if name not in ("image", *CertifyFields.model_fields):
            detail = f"{name}: expected no query parameters, got this one"
        raise RequestError("unknown_field", detail, field=name)


def _from_form(
    body: bytes, boundary: bytes, model: type[BaseModel], *, most: int
) -> tuple[dict[str, object], list[Named]]:
    texts: dict[str, list[str]] = {}
    images: list[Named] = []
    for part in parse_form(body, boundary, more=most - 1):
        if part.name != "image":
            _check_part_name(part, model)
            texts.setdefault(part.name, []).append(_as_text(part))
        elif part.filename or part.content:  # else a file field where nothing was chosen
            if len(images) == most:
                raise too_many(most)
            images.append(Named(part.filename or "", _image(part)))
    # A field that somebody left blank is absent, as in every form.
    given = {name: [text for text in several if text] for name, several in texts.items()}
    return {name: read_field(name, several, model) for name, several in given.items() if several}, images


def _image(part: Part) -> bytes | RequestError:
    """A file's bytes, or a data URL's; or what is wrong with its base64. Raises RequestError for other text."""
    if part.encoding == b"quoted-printable":
        part = replace(part, content=binascii.a2b_qp(part.content))
    is_text = part.kind.startswith(b"text/") or not part.kind
    if part.encoding == b"base64" or (part.filename is None and DATA_URL.match(part.content)):
        return image_or_error([part.content])
    # Clients that make a part of bytes alone give it no filename.
    if part.filename is not None or not is_text or begins_as_picture(part.content):
        return part.content
    raise RequestError(
        "missing_field",
        f"image: expected a file part with a filename, got text ({shown(part.content[:40].decode('latin-1'))}); send "
        "the file (curl -F image=@digit.png), or a data URL (data:image/png;base64,...)",
        field="image",
    )


def _check_part_name(part: Part, model: type[BaseModel]) -> None:
    try:
        check_name(part.name, model)
    except RequestError as error:
        if part.filename is None:
            raise
        detail = f"{shown(part.name)}: expected the file in the field image, got it in this one; rename the field"
        raise RequestError(error.code, detail, **error.extra) from None


def _as_text(part: Part) -> str:
    if len(part.content) > _MAX_FIELD_BYTES:
        detail = f"{part.name}: expected at most {_MAX_FIELD_BYTES} bytes, got {len(part.content)}"
        raise RequestError("out_of_range", detail, field=part.name)
    decode = _TRANSFER_DECODERS.get(part.encoding, bytes)
    try:
        return decode(part.content).decode("utf-8-sig").strip()
    except ValueError:  # of either decoding
        raise RequestError("out_of_range", f"{part.name}: expected UTF-8 text", field=part.name) from None


def _too_large(limit: int, got: str) -> RequestError:
    return RequestError("body_too_large", f"body: expected at most {limit} bytes, got {got}", max_body_bytes=limit)
