"""Structured logs: one JSON object a line, with the request's id. Never an image, a key or a tensor.

The id is made here, never taken from a header, so no client can collide with another's. A client's own X-Request-ID,
if it is short and of safe characters, is logged beside it and sent back; ours is in every answer and problem.
"""

from __future__ import annotations

import contextvars
import json
import logging
import math
import re
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import tracing

__all__ = ("LONGEST_PATH", "JsonFormatter", "OnceAMinute", "RequestLog", "configure", "is_quiet")

logger = logging.getLogger(__name__)
_MINUTE_SECONDS = 60.0
# Of UUIDs, ULIDs, base64 and what proxies make; nothing that a log, a header or a shell reads otherwise.
_SAFE_ID = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")
LONGEST_PATH = 200  # characters of a path that are kept
_QUIET = ("/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready", "/v2/models/certify/ready")
_request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)


class JsonFormatter(logging.Formatter):
    """time (UTC), level, logger, message, what `extra={"facts": ...}` has, and if any: request_id, trace_id, span_id,
    exception.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request_id := _request_id.get()) is not None:
            entry["request_id"] = request_id
        if (trace := tracing.current()) is not None:
            entry["trace_id"] = trace.trace_id
            if trace.span_id is not None:
                entry["span_id"] = trace.span_id
        entry.update(getattr(record, "facts", {}))
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send this process's logs, uvicorn's included, to `stream` (standard error). For commands, never on import."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("uvicorn.error").filters[:] = [OnceAMinute()]
    # Parsers of what clients send must not be able to write it into the log, at any level.
    for parser in ("PIL", "python_multipart"):
        logging.getLogger(parser).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.captureWarnings(True)  # what other code warns of is a line of JSON too
    # A line for each call to a remote classifier, whose headers are nobody's business.
    for client in ("httpx", "httpcore"):
        logging.getLogger(client).setLevel(logging.WARNING)


class OnceAMinute(logging.Filter):
    """Lets each warning through at most once a minute: uvicorn has one for every connection that sends no HTTP.

    The metric certify_no_http_total counts them. Its texts are few and its own, so what is remembered is bounded.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[str, float] = {}  # message -> when it was let through

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        now, message = self._clock(), str(record.msg)
        if now - self._last.get(message, -math.inf) < _MINUTE_SECONDS:
            return False
        self._last[message] = now
        return True


class RequestLog:
    """ASGI middleware: gives each request an id and a clock, answers X-Request-ID and Server-Timing, and logs one line
    when it is over. root_path: what a proxy puts before our paths.
    """

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = str(uuid.uuid4())
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        # Never reset: each request has a task, and so a context, of its own, and its last log entry is written outside.
        _request_id.set(request_id)
        began = state.setdefault("arrival", time.monotonic())  # its connection knows of an earlier one
        phases: dict[str, float] = {}  # what the request's time went to, in seconds
        state["phases"] = phases
        sent = _header(scope, b"x-request-id")
        their_id = sent.decode() if _SAFE_ID.fullmatch(sent) else None
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", (their_id or request_id).encode()),
                    (b"server-timing", _server_timing({**phases, "total": time.monotonic() - began})),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            facts = {
                "method": scope["method"],
                "path": scope["path"][:LONGEST_PATH],
                "status": status,
                "code": state.get("code"),
                "outcome": state.get("outcome"),
                "client": state.get("client"),
                "address": scope["client"][0] if scope.get("client") else None,
                "client_request_id": their_id,
                "seconds": round(time.monotonic() - began, 6),
            }
            # Probes and scrapes come every few seconds for ever: they are only worth a line when one is looking.
            quiet = is_quiet(scope["path"], self._root_path) and status < 400
            logger.log(logging.DEBUG if quiet else logging.INFO, "request", extra={"facts": facts})


def is_quiet(path: str, root_path: str) -> bool:
    """Whether it is a probe's or a scrape's."""
    return path.removeprefix(root_path) in _QUIET


def _header(scope: Scope, name: bytes) -> bytes:
    """The first of this name, empty where there is none."""
    return next((value for key, value in scope["headers"] if key == name), b"")


def _server_timing(phases: Mapping[str, float]) -> bytes:
    """https://www.w3.org/TR/server-timing/, in milliseconds."""
    return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in phases.items()).encode()
