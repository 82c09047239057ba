"""A certificate's payload, field by field: which there are, and how each is written (docs/certificates.md).

Whoever reads a payload after `shaped` need not ask again what a field is. It shares no code with the service.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from .envelope import Refused, Unreadable

__all__ = ("decimal", "moment", "shaped", "votes_of", "whole")

# One spelling of each: what is written twice is read once.
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{0,29}[1-9])?")
_HEX = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def decimal(name: str, text: object) -> Fraction:
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        raise Refused(f"{name}: expected a plain decimal in quotes, got {str(text)[:40]!r}")
    return Fraction(Decimal(text))


def whole(name: str, value: object) -> int:
    if type(value) is not int or value < 0:
        raise Refused(f"{name}: expected a whole number >= 0, got {str(value)[:40]!r}")
    return value


def moment(text: object) -> datetime:
    """2026-11-26T12:00:00Z. Raises Refused."""
    try:
        if isinstance(text, str) and _TIME.fullmatch(text):
            return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        pass
    raise Refused(f"issued_at: expected a time as 2026-11-26T12:00:00Z, got {str(text)[:40]!r}")


def votes_of(text: Any, classes: int) -> dict[int, int]:
    """ "3:31 8:1" -> {3: 31, 8: 1}: classes ascend, and have votes."""
    found: dict[int, int] = {}
    last = -1
    for part in text.split(" ") if text else ():
        if not re.fullmatch(r"(0|[1-9][0-9]{0,8}):[1-9][0-9]{0,8}", part):
            raise Refused(f"votes: expected CLASS:VOTES with spaces between, got {text[:40]!r}")
        label, count = map(int, part.split(":"))
        if not last < label < classes:
            raise Refused(f"votes: expected ascending classes below {classes}, got {text[:40]!r}")
        found[label] = count
        last = label
    return found


def _text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise Unreadable(f"{name}: expected text, got {str(value)[:40]!r}")


def _maybe_empty(name: str, value: object) -> None:
    if value != "":
        _text(name, value)


def _versions(name: str, value: object) -> None:
    if not isinstance(value, dict):
        raise Unreadable(f"{name}: expected versions by package, got {str(value)[:40]!r}")
    for package, version in value.items():
        _text(f"{name}: name", package)
        _text(f"{name}.{package}", version)


def _flag(name: str, value: object) -> None:
    if type(value) is not bool:
        raise Unreadable(f"{name}: expected true or false, got {str(value)[:40]!r}")


def _digest(name: str, value: object) -> None:
    if not isinstance(value, str) or not _HEX.fullmatch(value.removeprefix("sha256:" if "bundle" in name else "")):
        raise Refused(f"{name}: expected SHA-256 in 64 hex digits, got {str(value)[:40]!r}")
    if "bundle" in name and not value.startswith("sha256:"):
        raise Refused(f"{name}: expected sha256: before the digits, got {value}")


def _votes_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise Unreadable(f"{name}: expected votes as text, got {str(value)[:40]!r}")


def _or_null(kind: Any) -> Callable[[str, object], None]:
    return lambda name, value: None if value is None else shaped(name, value, kind)


# A function says what a value must be, a list what each of a list's values, a mapping which fields and no other.
PAYLOAD: Mapping[str, Any] = {
    "version": _text, "id": _text, "issued_at": lambda _, value: moment(value),
    "statement": {
        "outcome": _text, "label": _or_null({"index": whole, "name": _text}), "radius": decimal,
        "radius_linf": _or_null(decimal), "norm": _text, "alpha": decimal, "method": _text, "speaks_of": _text,
    },
    "function": {
        "bundle": {"name": _text, "version": _maybe_empty, "digest": _digest},
        "runtime": {
            "generator": _text, "device": _text, "engine": _text, "dtype": _text, "micro_batch": whole,
            "libraries": _versions,
        },
        "classes": whole, "final": _text,
        "levels": [{
            "sigma": decimal, "threshold": decimal, "noise": _text, "b": _or_null(decimal),
            "grey_steps": _or_null(whole),
        }],
    },
    "input": {"sha256": _digest, "shape": [whole], "encoding": _text, "resized": _flag, "turned": _flag},
    "request": {
        "samples": whole, "radius": _or_null(decimal), "norm": _text, "alpha": decimal, "plan": _text,
        "cut_short": _flag,
    },
    "counts": {
        "label": _or_null(whole), "chunk": whole,
        "levels": [{
            "weight": decimal, "pilot": [_votes_text], "chunks": [_votes_text], "taken": whole,
            "looks": [{"samples": whole, "share": decimal, "votes": _or_null(_votes_text)}],
        }],
    },
    "noise": {"scheme": _text, "key": _text, "scope_sha256": _digest},
}  # fmt: skip


def shaped(name: str, value: Any, kind: Any = PAYLOAD) -> None:
    """Raises Unreadable for a field that is missing, unknown or of another type, Refused for another spelling."""
    if isinstance(kind, Mapping):
        if not isinstance(value, dict) or set(value) != set(kind):
            odd = ", ".join(sorted(set(value) ^ set(kind))) if isinstance(value, dict) else str(value)
            raise Unreadable(f"{name or 'payload'}: fields that are missing or unknown: {odd[:200]}")
        for field, each in kind.items():
            shaped(f"{name}.{field}" if name else field, value[field], each)
    elif isinstance(kind, list):
        if not isinstance(value, list):
            raise Unreadable(f"{name}: expected a list, got {str(value)[:40]!r}")
        for each in value:
            shaped(name, each, kind[0])
    else:
        kind(name, value)
