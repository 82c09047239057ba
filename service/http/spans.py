"""A SERVER span for each request, by OpenTelemetry's conventions
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/); probes and scrapes have none.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import tracing
from ..tracing import Value
from .log import LONGEST_PATH, is_quiet

__all__ = ("Spans",)

# Others are named `_OTHER`, since whoever asks could make up any number of names.
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,255})(?::(\d{1,5}))?")
_LONGEST_AGENT = 200


class Spans:
    """ASGI middleware. It must see what a request becomes, so it is outside of all others. root_path: as Scopes'."""

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Never reset: each request has a task, and so a context, of its own.
        headers = Headers(scope=scope)
        tracing.follow(headers)
        if not tracing.is_on() or is_quiet(scope["path"], self._root_path):
            await self._app(scope, receive, send)
            return
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        attributes = _request_attributes(scope, headers)
        method = str(attributes["http.request.method"])
        with tracing.span("HTTP" if method == "_OTHER" else method, attributes, kind="server") as current:
            try:
                await self._app(scope, receive, noting)
            finally:
                if route := getattr(scope.get("route"), "path", None):
                    current.rename(f"{method} {route}")
                    current.set({"http.route": route})
                state = scope.get("state", {})
                if request_id := state.get("request_id"):
                    current.set({"certify.request_id": request_id})
                if status:
                    current.set({"http.response.status_code": status})
                if status >= 500:  # of less the caller is to blame
                    current.fail(state.get("code") or str(status))


def _request_attributes(scope: Scope, headers: Headers) -> dict[str, Value]:
    """What is known before it is answered, so that a sampler can choose by it."""
    method = scope["method"]
    found: dict[str, Value] = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "url.scheme": scope["scheme"],
        "url.path": scope["path"][:LONGEST_PATH],
        "network.protocol.version": scope["http_version"],
    }
    if client := scope.get("client"):
        found["client.address"] = client[0]
    if agent := headers.get("user-agent"):
        found["user_agent.original"] = agent[:_LONGEST_AGENT]
    if host := _HOST.fullmatch(headers.get("host", "")):
        found["server.address"] = host[1].strip("[]")
        if host[2]:
            found["server.port"] = int(host[2])
    return found
