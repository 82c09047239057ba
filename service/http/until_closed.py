"""Answers to clients of HTTP/1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

__all__ = ("until_closed",)


def until_closed(cycle: RequestResponseCycle, app: ASGI3Application) -> ASGI3Application:
    """`app` for a client of HTTP/1.0, which knows no chunks (RFC 9112, 6.1): a stream ends with its connection."""

    async def asked(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        streams = False

        async def sending(message: ASGISendEvent) -> None:
            nonlocal streams
            if message["type"] == "http.response.start":
                streams = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
                if streams:
                    cycle.chunked_encoding = False
            elif streams and message["type"] == "http.response.body":
                cycle.expected_content_length = len(message.get("body", b""))  # uvicorn counts down from it
            await send(message)

        await app(scope, receive, sending)

    return asked
