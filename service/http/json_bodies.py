"""A JSON body -> its values and its image, or images.

Python objects are many times as large as the JSON they come from. So the texts of images, nearly all of an honest body,
are taken out as bytes first, and only a rest of at most 64 KiB with a bounded number of values is parsed.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from ..answering.fields import integer, number, shown
from ..errors import RequestError
from .image_texts import decode_image_text

__all__ = ("MAX_NAME", "Named", "image_or_error", "kind_of", "load", "parse_json", "parse_json_batch", "too_many")

# All but the image. Every field at its longest takes a tenth of it.
_MAX_REST_BYTES = 64 * 1024
# Two lists of 64 values are the most that this API has; more than them, so that a list that is too long is named.
_MAX_VALUES = 4096
# Of an image's name: the longest that file systems have.
MAX_NAME = 255
_VALUE_MARKS = b"[{,:"
_IMAGE = re.compile(rb'"image"[ \t\r\n]*:[ \t\r\n]*"')
_IMAGES = re.compile(rb'"image"[ \t\r\n]*:[ \t\r\n]*\[')
_IN_THE_WAY = re.compile(rb'"image"[ \t\r\n]*:[ \t\r\n]*(.)')
_MEMBER = re.compile(rb'"([^"\\]{1,64})"[ \t\r\n]*:')
_BLANKS = re.compile(rb"[ \t\r\n]*")
_NO_TEXT = re.compile(rb"[\[{tfn0-9-]")  # how values that are no text begin
# By what a value begins with, where it is too long to be parsed.
_KINDS_BEGUN = {b"[": "a list", b"{": "an object", b'"': "text"}
_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
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


class Named(NamedTuple):
    """One image of a batch: its name as it was sent, and its file, or what was wrong with its text."""

    name: str
    image: bytes | RequestError


def parse_json(body: bytes) -> tuple[dict[str, object], list[Named]]:
    """The values without the image, and the image, if there is one. Raises RequestError."""
    rest, taken = _take_image(body)
    values = _loaded(rest)
    text = values.pop("image", None)
    if text is None:
        return values, []
    if not isinstance(text, str):
        raise _no_text(kind_of(text))
    return values, [Named("", image_or_error([_encoded(text) if taken is None else _unescape(taken)]))]


def parse_json_batch(body: bytes, *, most: int) -> tuple[dict[str, object], list[Named]]:
    """The values without the images and their names, and these. Raises RequestError."""
    rest, taken = _take_images(body, most)
    values = _loaded(rest)
    given, names = values.pop("image", None), values.pop("name", None)
    if taken is None:
        listed = [] if given is None else given if isinstance(given, list) else [None]
        texts = [text for text in listed if isinstance(text, str)]
        if len(texts) != len(listed):
            raise _no_texts()
        if len(texts) > most:
            raise too_many(most)
        taken = [image_or_error([_encoded(text)]) for text in texts]
    return values, [Named(*pair) for pair in zip(_names(names, len(taken)), taken, strict=True)]


def image_or_error(held: list[bytes]) -> bytes | RequestError:
    """What decode_image_text gives or raises of the text, taken out of `held`: one image is not to spoil others."""
    try:
        return decode_image_text(held.pop())
    except RequestError as error:
        error.__context__ = None  # whose frames have the body
        return error.with_traceback(None)


def too_many(most: int) -> RequestError:
    if most == 1:
        detail = "image: expected one file, got several; send them to /v1/certify/batch"
        return RequestError("out_of_range", detail, field="image")
    detail = f"image: expected at most {most} images in one request, got more; send the others in another"
    return RequestError("out_of_range", detail, field="image", max_batch=most)


def _names(given: object, count: int) -> list[str]:
    if given is None:
        return [""] * count
    listed = given if isinstance(given, list) else [None]
    names = [name for name in listed if isinstance(name, str) and len(name) <= MAX_NAME]
    if len(names) != len(listed):
        detail = f"name: expected a list of texts of at most {MAX_NAME} characters"
        raise RequestError("out_of_range", detail, field="name")
    if len(names) != count:
        detail = f"name: expected as many as there are images, {count}, got {len(names)}"
        raise RequestError("out_of_range", detail, field="name")
    return names


def load(text: bytes) -> object:
    """What JSON says, in UTF-8 and with each name once. Its values have been counted. Raises RequestError."""
    if _is_wide(text):
        raise _not_utf_8()
    try:
        # utf-8-sig: editors and .NET put a mark before it, which RFC 8259 lets us ignore.
        return json.loads(text.decode("utf-8-sig"), parse_int=integer, parse_float=number, object_pairs_hook=_unique)
    except UnicodeDecodeError as exc:
        raise _not_utf_8(f" at byte {exc.start}") from None
    except (ValueError, RecursionError) as exc:
        reason = "nested too deeply" if isinstance(exc, RecursionError) else str(exc) if text else "got zero bytes"
        raise _malformed(f"expected a JSON object, {shown(reason)}") from None


def kind_of(value: object) -> str:
    """In the words of whoever writes JSON."""
    return _KINDS.get(type(value), "null")


def _loaded(rest: bytes) -> dict[str, object]:
    marks = len(rest) - len(rest.translate(None, _VALUE_MARKS))
    if marks > _MAX_VALUES:
        raise _malformed(f"expected at most {_MAX_VALUES} values, got about {marks}")
    values = load(rest)
    if not isinstance(values, dict):
        twice = "; was it encoded twice?" if isinstance(values, str) else ""
        raise _malformed(f"expected a JSON object, got {kind_of(values)}{twice}")
    return values


def _encoded(text: str) -> bytes:
    """surrogatepass: a lone one is no base64 either, and says so by the same error."""
    return text.encode("utf-8", "surrogatepass")


def _take_image(body: bytes) -> tuple[bytes, bytes | None]:
    """The body with `"image": ""`, and what stood between these quotes; a short body stays whole, with None."""
    if len(body) <= _MAX_REST_BYTES:
        return body, None
    whole = False
    for key in _IMAGE.finditer(body, 0, _MAX_REST_BYTES):
        start, end = key.end(), body.find(b'"', key.end())  # base64 has no quotes
        if end >= 0 and len(body) - (end - start) <= _MAX_REST_BYTES:
            return body[:start] + body[end:], body[start:end]
        whole = whole or (end >= 0 and _ends(body, end + 1))
    kind = None if whole else _in_the_way(body)
    if kind == "text":
        raise _malformed("expected base64 text as image, got a text that does not end, or with quotes in it")
    if kind is not None:
        raise _no_text(kind)
    raise _too_long(body, "the text of image")


def _take_images(body: bytes, most: int) -> tuple[bytes, list[bytes | RequestError] | None]:
    """The body with `"image": []`, and what each text of that list stood for; a short body stays whole, with None."""
    if len(body) <= _MAX_REST_BYTES:
        return body, None
    whole = False
    for key in _IMAGES.finditer(body, 0, _MAX_REST_BYTES):
        images: list[bytes | RequestError] = []
        at = _after_blanks(body, key.end())
        more = body[at : at + 1] != b"]"
        while more and body[at : at + 1] == b'"' and (end := body.find(b'"', at + 1)) >= 0:
            if len(images) == most:
                raise too_many(most)
            images.append(image_or_error([_unescape(body[at + 1 : end])]))
            at = _after_blanks(body, end + 1)
            if more := body[at : at + 1] == b",":
                at = _after_blanks(body, at + 1)
        if more and _NO_TEXT.match(body, at):
            raise _no_texts()
        if more or body[at : at + 1] != b"]":
            raise _malformed(f"expected a list of base64 texts as image, got another value at byte {at}")
        if len(body) - (at - key.end()) <= _MAX_REST_BYTES:
            return body[: key.end()] + body[at:], images
        whole = whole or _ends(body, at + 1)
    if not whole and _in_the_way(body) is not None:
        raise _no_texts()
    raise _too_long(body, "the list of texts in image")


def _ends(body: bytes, at: int) -> bool:
    """Whether a member ends here: what is too long is another."""
    at = _after_blanks(body, at)
    return body[at : at + 1] in (b",", b"}")


def _in_the_way(body: bytes) -> str | None:
    """What kind of value stands as image where it is no text, or no list of them, and long."""
    found = _IN_THE_WAY.search(body, 0, _MAX_REST_BYTES)
    return None if found is None else _KINDS_BEGUN.get(found[1])


def _is_wide(text: bytes) -> bool:
    """Whether it is UTF-16 or UTF-32, which have zeros where JSON in UTF-8 has none."""
    return b"\0" in text[:4]


def _not_utf_8(where: str = "") -> RequestError:
    return _malformed(f"expected a JSON object in UTF-8, got bytes of another encoding{where}")


def _too_long(body: bytes, image: str) -> RequestError:
    if _is_wide(body):
        return _not_utf_8()
    *_, last = (b"?", *_MEMBER.findall(body, 0, _MAX_REST_BYTES))
    where = shown(last.decode("latin-1"))
    return _malformed(f"expected at most {_MAX_REST_BYTES} bytes of JSON beside {image}, got more, perhaps in {where}")


def _no_text(kind: str) -> RequestError:
    where = "; send several to /v1/certify/batch" if kind == "a list" else ""
    return RequestError("out_of_range", f"image: expected base64 text, got {kind}{where}", field="image")


def _no_texts() -> RequestError:
    return RequestError("out_of_range", "image: expected a list of base64 texts", field="image")


def _after_blanks(body: bytes, at: int) -> int:
    blanks = _BLANKS.match(body, at)
    return blanks.end() if blanks else at


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
