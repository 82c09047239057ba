"""Which pages may ask from a browser (CERTIFY_ALLOWED_ORIGINS), by the Fetch standard's CORS protocol.

Without origins nothing is here, and a browser keeps every answer from pages of other origins. A preflight is answered
here whatever its path: a page that is not allowed gets no further, and its request is never sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..answering.fields import shown
from .problems import problem

__all__ = ("Cors",)

_METHODS = ("GET", "HEAD", "POST")
_READ = ("Retry-After", "X-Request-ID", "Server-Timing", "WWW-Authenticate")
# Two hours, the most that Chromium keeps one: a page asks once.
_KEPT_SECONDS = 7200


class Cors(CORSMiddleware):
    """ASGI middleware. origins: `https://app.example`, ..., or `*` for any."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            # Whatever a page's libraries add (baggage, X-Requested-With, ...): no header opens anything here but a key.
            allow_headers=("*",),
            expose_headers=_READ,
            max_age=_KEPT_SECONDS,
            # A service in the page's own network: whoever names an origin means it.
            allow_private_network=True,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            request = Request(scope, receive)
            origin = request.headers.get("origin")
            if origin is not None and "access-control-request-method" in request.headers:
                await self._preflight(request, origin)(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def _preflight(self, request: Request, origin: str) -> Response:
        method = request.headers["access-control-request-method"]
        if self.is_allowed_origin(origin):
            if method in _METHODS:
                return self.preflight_response(request.headers)
            detail = f"Access-Control-Request-Method: expected one of {', '.join(_METHODS)}, got {shown(method)}"
            headers = {"Allow": ", ".join(_METHODS), "Vary": "Origin"}
            return problem(request, "method_not_allowed", detail, headers=headers)
        detail = f"Origin: expected one of CERTIFY_ALLOWED_ORIGINS, got {shown(origin)}"
        return problem(request, "origin_not_allowed", detail, headers={"Vary": "Origin"})
