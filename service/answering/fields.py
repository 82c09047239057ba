"""A request's fields, however they come: each value as the type that its field has, then checked by CertifyFields.

A list (threshold, sigmas) is a repeated field, a comma-separated one, or a JSON list: `0.5,0.6` or `[0.5, 0.6]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import ValidationError

from ..errors import RequestError
from .schemas import CertifyFields

__all__ = ("check_fields", "integer", "parse_texts", "read_field", "shown")

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_LISTS = ("threshold", "sigmas")
_INTEGERS = ("samples", "deadline_ms")
_NUMBERS = ("radius", "alpha")
_MAX_DIGITS = 300  # a longer integer is beyond float64, and Python refuses to read one of 4,300


def parse_texts(texts: Mapping[str, list[str]]) -> CertifyFields:
    """Fields that come as text, each perhaps several times, as in a form. Raises RequestError."""
    return check_fields({name: read_field(name, given) for name, given in texts.items()})


def check_fields(values: dict[str, object]) -> CertifyFields:
    for name in values:
        if name not in CertifyFields.model_fields:
            raise RequestError(
                "unknown_field",
                f"{shown(name)}: expected one of {['image', *CertifyFields.model_fields]}",
                field=shown(name),
            )
    try:
        # A field that is null is a field that is absent.
        return CertifyFields.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as exc:
        raise _invalid(exc) from None


def read_field(name: str, given: list[str]) -> object:
    """A form field's text as the type that its field has; text that is no such thing stays text, and is refused."""
    if name in _LISTS:
        items = [item.strip() for text in given for item in text.removeprefix("[").removesuffix("]").split(",")]
        return [_number(item) for item in items]
    if len(given) > 1:
        raise RequestError("out_of_range", f"{shown(name)}: expected one value, got {len(given)}", field=shown(name))
    (text,) = given
    if name in _NUMBERS:
        return _number(text)
    if name in _INTEGERS:
        return integer(text) if _INTEGER.fullmatch(text) else text
    if name == "resize":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    return text


def _number(text: str) -> object:
    return float(text) if _NUMBER.fullmatch(text) else text


def integer(text: str) -> int | float:
    """Past any limit of this API an infinity does as well as the integer, and costs nothing to read."""
    return int(text) if len(text) <= _MAX_DIGITS else float("inf")


def _invalid(exc: ValidationError) -> RequestError:
    error = exc.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in error["loc"])
    detail = f"{where}: {error['msg']}, got {shown(repr(error['input']))}"
    return RequestError("out_of_range", detail, field=where)


def shown(text: str | None) -> str:
    """Untrusted text for a message: ASCII (a lone surrogate has no UTF-8), and not much of it."""
    return "nothing" if text is None else ascii(text)[1:-1][:100]
