"""One HTTP exchange with an endpoint: JSON comes back, or an error in words. Connections are kept and used again."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from ..errors import RemoteError
from ..retries import retry_after_seconds
from .answers import Passing
from .limits import Limits
from .token import Token

__all__ = ("Http", "JSON_HEADERS")

JSON_HEADERS = {"content-type": "application/json"}
PASSING = (429, 502, 503, 504)  # too many calls; a balancer without a server
MOST_METADATA = 2**20  # bytes; a model's description is some hundred
LONGEST = 300  # characters of an endpoint's own words that are handed on


class Http:
    """Make and use it inside one event loop. Certificates are verified; redirects are not followed."""

    def __init__(self, limits: Limits) -> None:
        import httpx

        self._token = Token(limits.token_file)
        self._seconds = limits.seconds
        pool = httpx.Limits(max_connections=limits.connections, max_keepalive_connections=limits.connections)
        self._client = httpx.AsyncClient(timeout=None, limits=pool, headers={"accept-encoding": "identity"})

    async def ask(
        self,
        url: str,
        content: bytes | None = None,
        *,
        headers: dict[str, str] | None = None,
        most_bytes: int = MOST_METADATA,
        absent: tuple[int, ...] = (),
    ) -> dict[str, Any] | None:
        """The JSON object at `url`; with content it is posted there. None: a status of `absent`.

        most_bytes: of the answer. Raises Passing for what may pass by itself, RemoteError for the rest.
        """
        import httpx

        try:
            async with asyncio.timeout(self._seconds):
                method = "GET" if content is None else "POST"
                sent = {**(headers or {}), **self._token.headers()}
                async with self._client.stream(method, url, content=content, headers=sent) as response:
                    body = await _body(response, most_bytes)
        except TimeoutError:
            raise Passing(f"no answer within {self._seconds:g} seconds (CERTIFY_REMOTE_SECONDS)") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Passing(f"cannot be asked: {type(error).__name__}: {error}") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise RemoteError(f"cannot be asked: {type(error).__name__}: {error}") from error
        if response.status_code in absent:
            return None
        _check_status(response.status_code, body, retry_after_seconds(response.headers.get("retry-after")))
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            raise RemoteError(f"expected a JSON object, got {_words(body)!r}") from None
        if not isinstance(answer, dict):
            raise RemoteError(f"expected a JSON object, got {_words(body)!r}")
        return answer

    async def close(self) -> None:
        await self._client.aclose()


async def _body(response: Any, most_bytes: int) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > most_bytes:
            raise RemoteError(f"expected an answer of at most {most_bytes} bytes, got more")
        parts.append(part)
    return b"".join(parts)


def _check_status(status: int, body: bytes, retry_after: float | None) -> None:
    if status in PASSING:
        raise Passing(f"answered {status}: {_words(body)}", retry_after)
    if status in (401, 403):
        raise RemoteError(f"expected to be let in with the token of CERTIFY_REMOTE_TOKEN_FILE, got {status}")
    if not 200 <= status < 300:
        raise RemoteError(f"expected an answer, got status {status}: {_words(body)}")


def _words(body: bytes) -> str:
    return " ".join(body[: 4 * LONGEST].decode("utf-8", errors="replace").split())[:LONGEST]
