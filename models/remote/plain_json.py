"""Plain JSON over HTTP, for whatever speaks no standard protocol (docs/bundles.md):

POST URL   {"images": [...]}        pictures as nested lists of numbers, or as PNG in base64
200        {"labels": [...]}        a class of each, as its number or name; or
           {"scores": [[...], ...]} a score for each class of each
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RemoteError
from .answers import Answer, from_json
from .declared import Remote, parse_url
from .http import JSON_HEADERS, Http
from .limits import Limits
from .oip_http import BYTES_A_SCORE, MOST_BYTES
from .pictures import laid_out, png_texts

__all__ = ("PlainJson",)


class PlainJson:
    """Make and use it inside one event loop."""

    def __init__(self, url: str, limits: Limits) -> None:
        self._url = parse_url(url).base
        self._http = Http(limits)

    async def about(self) -> dict[str, Any]:
        """{}: it says nothing of itself."""
        return {}

    async def ask(self, pictures: NDArray[np.float32], remote: Remote, names: Sequence[str]) -> Answer:
        """As OipHttp.ask; names: the classes'."""
        if remote.input.dtype == "png":
            images: list[Any] = png_texts(pictures, remote.input)
        else:
            images = laid_out(pictures, remote.input).tolist()
        most = MOST_BYTES + BYTES_A_SCORE * len(pictures) * len(names)
        content = json.dumps({"images": images}).encode()
        raw = await self._http.ask(self._url, content, headers=JSON_HEADERS, most_bytes=most)
        assert raw is not None
        kind = remote.output.kind
        if kind not in raw:
            got = ", ".join(sorted(raw))[:100] or "nothing"
            raise RemoteError(f"expected an object with {kind}, got one with {got}")
        return from_json(raw[kind], kind, names, len(pictures))

    async def close(self) -> None:
        await self._http.close()
