"""A request's fields, however they come: each value as the type that its field has, then checked by its model.

A list (threshold, sigmas) is a repeated field, a comma-separated one, or a JSON list: `0.5,0.6` or `[0.5, 0.6]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ..errors import RequestError
from .schemas import MAX_ITEMS, CertifyFields

__all__ = (
    "FieldKind",
    "check_fields",
    "check_name",
    "integer",
    "kinds_of",
    "number",
    "parse_texts",
    "read_field",
    "shown",
)

F = TypeVar("F", bound=BaseModel)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_MAX_DIGITS = 300  # a longer integer is beyond float64, and Python refuses to read one of 4,300


@dataclass(frozen=True, kw_only=True)
class FieldKind:
    """What one value of a field is, and whether the field takes several."""

    type: type  # float, int, bool or str
    is_list: bool = False


def _kind(annotation: object) -> FieldKind:
    """A field's annotation without what it is wrapped in: `Annotated[list[float], ...] | None` is a list of float."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin in (UnionType, Union):
        (present,) = (argument for argument in arguments if argument is not NoneType)
        return _kind(present)
    if origin is list:
        return FieldKind(type=_kind(arguments[0]).type, is_list=True)
    if origin is Literal:
        return FieldKind(type=str)
    assert annotation in (float, int, bool, str), annotation
    return FieldKind(type=annotation)


@cache
def kinds_of(model: type[BaseModel]) -> dict[str, FieldKind]:
    """Every field of a request beside the image, in the model's order."""
    return {name: _kind(field.annotation) for name, field in model.model_fields.items()}


_TEXT = FieldKind(type=str)  # what an unknown field is, until it is refused


def parse_texts(texts: Mapping[str, list[str]]) -> CertifyFields:
    """Fields that come as text, each perhaps several times, as in a form. Raises RequestError."""
    values = {name: read_field(name, given, CertifyFields) for name, given in texts.items()}
    return check_fields(values, CertifyFields)


def check_name(name: str, model: type[BaseModel]) -> None:
    """Raises RequestError `unknown_field` for a name that no field has."""
    if name not in model.model_fields:
        detail = f"{shown(name)}: expected one of {['image', *model.model_fields]}"
        if (plain := name.partition("[")[0]) in model.model_fields:
            detail = f"{shown(name)}: expected {plain}, got it with brackets; a list is that field several times"
        raise RequestError("unknown_field", detail, field=shown(name))


def check_fields(values: dict[str, object], model: type[F]) -> F:
    """Raises RequestError: unknown_field or out_of_range, for the first field that is wrong."""
    given = {}
    for name, value in values.items():
        check_name(name, model)
        if isinstance(value, list):
            _check_items(name, len(value))
        if value is not None:  # a field that is null is a field that is absent
            given[name] = _whole(value) if kinds_of(model)[name].type is int else value
    try:
        return model.model_validate(given)
    except ValidationError as exc:
        raise _invalid(exc) from None


def read_field(name: str, given: list[str], model: type[BaseModel]) -> object:
    """A form field's text as the type that its field has; text that is no such thing stays text, and is refused."""
    kind = kinds_of(model).get(name, _TEXT)
    if kind.type is bool and len(given) == 2:
        given = _ticked(given)
    if kind.is_list:
        _check_items(name, sum(text.count(",") + 1 for text in given))
        items = [item.strip() for text in given for item in _in_brackets(text).split(",")]
        return [_READERS[kind.type](item) for item in items]
    if len(given) > 1:
        raise RequestError("out_of_range", f"{shown(name)}: expected one value, got {len(given)}", field=shown(name))
    return _READERS[kind.type](given[0])


def _in_brackets(text: str) -> str:
    """Of a JSON list. With one bracket alone it was cut off, and is refused as no number."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def _check_items(name: str, items: int) -> None:
    """Before they are built: a list's items are many times as large as their text."""
    if items > MAX_ITEMS:
        raise RequestError("out_of_range", f"{name}: expected at most {MAX_ITEMS} values, got {items}", field=name)


def _whole(value: object) -> object:
    """1e4 and 10000.0 are integers (JSON Schema 2020-12, 6.1.1): R, Lua and others write some so."""
    exact = isinstance(value, float) and value.is_integer() and abs(value) <= 2**53
    return int(value) if exact and isinstance(value, float) else value


def _number(text: str) -> object:
    return number(text) if _NUMBER.fullmatch(text) else text


def _integer(text: str) -> object:
    return integer(text) if _INTEGER.fullmatch(text) else _number(text)


# What forms send for a box that is ticked: `on` (HTML), a value of its author's, or a word.
_TRUTHS = {"true": True, "1": True, "on": True, "yes": True, "checked": True}
_TRUTHS |= {"false": False, "0": False, "off": False, "no": False}


def _truth(text: str) -> object:
    return _TRUTHS.get(text.lower(), text)


def _ticked(given: list[str]) -> list[str]:
    """Frameworks send a hidden `false` beside a box, before or after it; with both, the box is ticked."""
    others = [text for text in given if _truth(text) is not False]
    return others if len(others) == 1 else given


_READERS: dict[type, Callable[[str], object]] = {float: _number, int: _integer, bool: _truth, str: str}


def number(text: str) -> float:
    """Digits that no float64 needs are refused like an infinity."""
    return float(text) if len(text) <= _MAX_DIGITS else float("inf")


def integer(text: str) -> int | float:
    """Past any limit of this API an infinity does as well as the integer, and costs nothing to read."""
    return int(text) if len(text) <= _MAX_DIGITS else float("inf")


def _invalid(exc: ValidationError) -> RequestError:
    error = exc.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in error["loc"])
    detail = f"{where}: {error['msg']}, got {shown(repr(error['input']))}"
    return RequestError("out_of_range", detail, field=str(error["loc"][0]))


def shown(text: str | None) -> str:
    """Untrusted text for a message: ASCII (a lone surrogate has no UTF-8), and not much of it."""
    return "nothing" if text is None else ascii(text)[1:-1][:100]
