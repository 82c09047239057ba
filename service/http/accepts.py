"""What an Accept header asks for (RFC 9110, 12.4 and 12.5)."""

from __future__ import annotations

import re

from starlette.datastructures import Headers

__all__ = ("asks_for", "weights")

_QUALITY = re.compile(r";\s*q\s*=\s*([^\s;]*)", re.IGNORECASE)
_NUMBER = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)


def asks_for(headers: Headers, media_type: str) -> bool:
    """Whether `media_type` is named, and JSON not preferred to it. A wildcard names nothing."""
    named = weights(",".join(headers.getlist("accept")))
    quality = named.get(media_type, 0.0)
    return quality > 0 and quality >= named.get("application/json", 0.0)


def weights(header: str) -> dict[str, float]:
    """Media types or codings of such a header -> the largest weight each has; one that is no number is 0.

    Parameters but the weight are left aside: of each format one version is made.
    """
    named: dict[str, float] = {}
    for each in header.split(","):
        if name := each.partition(";")[0].strip().lower():
            named[name] = max(named.get(name, 0.0), _quality(each))
    return named


def _quality(media_range: str) -> float:
    found = _QUALITY.search(media_range)
    if found is None:
        return 1.0
    return float(found[1]) if _NUMBER.fullmatch(found[1]) else 0.0
