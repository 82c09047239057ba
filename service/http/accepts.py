"""What an Accept header asks for (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re

from starlette.datastructures import Headers

__all__ = ("asks_for",)

_QUALITY = re.compile(r";\s*q\s*=\s*([^\s;]*)", re.IGNORECASE)
_NUMBER = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)


def asks_for(headers: Headers, media_type: str) -> bool:
    """Whether `media_type` is named, and JSON not preferred to it. A wildcard names nothing."""
    named: dict[str, float] = {}
    for each in ",".join(headers.getlist("accept")).split(","):
        name = each.partition(";")[0].strip().lower()
        named[name] = max(named.get(name, 0.0), _quality(each))
    quality = named.get(media_type, 0.0)
    return quality > 0 and quality >= named.get("application/json", 0.0)


def _quality(media_range: str) -> float:
    found = _QUALITY.search(media_range)
    if found is None:
        return 1.0
    return float(found[1]) if _NUMBER.fullmatch(found[1]) else 0.0
