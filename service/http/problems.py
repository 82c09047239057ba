"""Exceptions -> RFC 9457 problem documents. The only file with status numbers.

`type` is urn:certify:problem:<code>, `instance` is the request's id as a URN, and hints (the smallest samples, the
largest radius) are extra members.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..answering.schemas import CertifyFields, Problem, Timing
from ..errors import (
    BackendUnavailable,
    BudgetSpent,
    CertifyError,
    DeadlineExceeded,
    Draining,
    QueueFull,
    RequestError,
    Unauthorized,
)
from .refusals import hold_back

__all__ = ("CODES", "MEDIA_TYPE", "Faults", "Kind", "Occasion", "install", "problem", "streamed")

MEDIA_TYPE = "application/problem+json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One stable code: its status and its title; an example of its detail and hints for the API's documentation."""

    status: int
    title: str
    example: str
    hints: Mapping[str, object] = field(default_factory=dict)  # every hint that it may carry


CODES: dict[str, Kind] = {
    "malformed_body": Kind(
        status=400,
        title="The body cannot be parsed",
        example="body: expected a JSON object, Expecting value: line 1 column 1 (char 0)",
    ),
    "not_found": Kind(status=404, title="There is nothing here", example="expected a path of this API, got /nowhere"),
    "method_not_allowed": Kind(
        status=405, title="This path has no such method", example="expected one of POST, got GET /certify"
    ),
    "origin_not_allowed": Kind(
        status=403,
        title="Pages of this origin may not ask",
        example="Origin: expected one of CERTIFY_ALLOWED_ORIGINS, got https://elsewhere.example",
    ),
    "unauthorized": Kind(
        status=401,
        title="A key of this service is needed",
        example="Authorization: expected `Bearer KEY` with a key of this service, got none",
    ),
    "body_too_large": Kind(
        status=413,
        title="The body is too large",
        example="body: expected at most 10485760 bytes, got a Content-Length of 104857600",
        hints={"max_body_bytes": 10485760},
    ),
    "unsupported_format": Kind(
        status=415,
        title="The format is not supported",
        example="image: expected PNG, JPEG or WebP, got other bytes",
        hints={"field": "image"},
    ),
    "missing_field": Kind(
        status=422,
        title="A field is missing",
        example="image: expected a PNG, JPEG or WebP file, got nothing",
        hints={"field": "image"},
    ),
    "unknown_field": Kind(
        status=422,
        title="There is no such field",
        example=f"epsilon: expected one of {['image', *CertifyFields.model_fields]}",
        hints={"field": "epsilon"},
    ),
    "out_of_range": Kind(
        status=422,
        title="A value is out of range",
        example="alpha: Input should be less than or equal to 0.1, got 0.5",
        hints={"field": "alpha", "max_samples": 100000, "max_batch": 256},
    ),
    "unknown_sigma": Kind(
        status=422,
        title="The bundle has no such sigma",
        example="sigmas: expected some of [0.25, 0.5, 1.0], got 0.75",
        hints={"field": "sigmas", "sigmas": [0.25, 0.5, 1.0]},
    ),
    "image_undecodable": Kind(
        status=422,
        title="The image is damaged",
        example="image: begins like PNG, JPEG or WebP, but is damaged",
        hints={"field": "image"},
    ),
    "image_too_many_pixels": Kind(
        status=422,
        title="The image has too many pixels",
        example="image: expected at most 16777216 pixels, got 20000 x 20000 = 400000000",
        hints={"field": "image", "max_pixels": 16777216, "max_side": 16384},
    ),
    "image_multiframe": Kind(
        status=422,
        title="The image has several frames",
        example="image: expected one frame, got an animation or several pictures",
        hints={"field": "image"},
    ),
    "image_wrong_size": Kind(
        status=422,
        title="The image has another size",
        example="image: expected 8 x 8 pixels, got 28 x 28; set resize to have it resized, the certificate then "
        "speaks of the resized image",
        hints={"field": "image", "expected_width": 8, "expected_height": 8},
    ),
    "budget_too_small": Kind(
        status=422,
        title="So few samples cannot certify anything",
        example="samples: expected at least 64 for these sigmas, thresholds and alpha to certify anything, got 10 "
        "(0 in whole chunks of 32)",
        hints={"field": "samples", "min_samples": 64},
    ),
    "radius_unreachable": Kind(
        status=422,
        title="These scales and samples cannot certify such a radius",
        example="radius: expected at most 3.1 (l2) for these sigmas, samples and alpha, got 10.0",
        hints={"field": "radius", "max_radius": 3.1},
    ),
    "queue_full": Kind(
        status=429,
        title="Too many requests wait",
        example="expected at most 68 requests at once (4 of them sampling), and there are as many",
    ),
    "budget_spent": Kind(
        status=429,
        title="The client's budget of samples is spent",
        example="samples: expected at most the 4000 that camera-app has left of 600000 in this minute, got 10000",
    ),
    "internal_error": Kind(
        status=500, title="The service has a fault", example="an unexpected error; its log entry has this instance's id"
    ),
    "preview_unavailable": Kind(
        status=501,
        title="The backend has no pictures to show",
        example="preview: expected a backend that runs the network in this process (embedded), got triton, which "
        "returns votes alone",
    ),
    "backend_unavailable": Kind(
        status=503,
        title="The backend does not answer",
        example="the backend did not answer within 60 seconds",
    ),
    "out_of_memory": Kind(
        status=503,
        title="The service has no memory left for this request",
        example="there was no memory left for this request; send it again later, or to another replica",
    ),
    "draining": Kind(
        status=503,
        title="The service is shutting down",
        example="the service is shutting down; send the request to another replica",
    ),
    "deadline_exceeded": Kind(
        status=504,
        title="The deadline came too early",
        example="deadline_ms: the deadline came before any look was complete, so nothing can be said",
    ),
}

_CODE_OF_STATUS = {404: "not_found", 405: "method_not_allowed"}
_CODE_OF_ERROR: dict[type[CertifyError], str] = {
    Unauthorized: "unauthorized",
    QueueFull: "queue_full",
    BudgetSpent: "budget_spent",
    Draining: "draining",
    BackendUnavailable: "backend_unavailable",
    DeadlineExceeded: "deadline_exceeded",
}
# Retry-After of what passes by itself: as soon as a gateway notices that a server has come, come back, or been
# exchanged; as other requests end; at once where another replica is, which a balancer finds.
_RETRY_SECONDS = {"backend_unavailable": 5, "out_of_memory": 5, "draining": 1}
# What nobody reads, because nobody is there; it keeps the request's log entry apart from an answer (nginx's number).
_CLIENT_LEFT = 499


def install(app: FastAPI) -> None:
    """Make every error that leaves `app` a problem document; see Faults for those that nobody expects."""
    app.add_exception_handler(CertifyError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(MemoryError, _on_error)


class Faults:
    """ASGI middleware: whatever no handler knows becomes a problem document too, inside of all that marks answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if scope["type"] != "http" or begun:
                raise
            request = Request(scope, receive)
            await (await _on_error(request, error))(scope, receive, send)


def problem(
    request: Request,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, object] | None = None,
) -> Response:
    """The response with the document for `code`. extra: its hints."""
    request.state.code = code
    if code in _RETRY_SECONDS:
        headers = {"Retry-After": str(_RETRY_SECONDS[code]), **(headers or {})}
    made = _document(request, code, detail, Occasion.of(request), extra)
    return JSONResponse(made.model_dump(mode="json"), made.status, headers=headers, media_type=MEDIA_TYPE)


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """What a problem is about: a request, or one image of a batch."""

    id: str  # a UUID
    arrival: float  # in time.monotonic's seconds
    phases: dict[str, float]  # what its time went to, in seconds

    @classmethod
    def of(cls, request: Request) -> Occasion:
        state = request.state
        return cls(id=state.request_id, arrival=state.arrival, phases=state.phases)


def streamed(request: Request, error: Exception, occasion: Occasion) -> Problem:
    """The document for an error that comes once a stream has begun, and has no headers of its own."""
    code, detail, hints, seconds = _told(error)
    extra = hints if seconds is None else {**hints, "retry_after_seconds": seconds}
    return _document(request, code, detail, occasion, extra)


def _document(
    request: Request, code: str, detail: str, occasion: Occasion, extra: Mapping[str, object] | None
) -> Problem:
    kind = CODES[code]
    waited = time.monotonic() - occasion.arrival
    # Only images are posted.
    request.app.state.gateway.metrics.failed(code, waited if request.method == "POST" else None)
    timing = Timing(total_seconds=round(waited, 6), sampling_seconds=round(occasion.phases.get("sampling", 0.0), 6))
    extra = {"timing": timing, **(extra or {})}
    if request.scope["path"].startswith(f"{request.scope.get('root_path', '')}/v2/"):
        extra["error"] = detail  # the Open Inference Protocol's only member of an error
    return Problem(
        type=f"urn:certify:problem:{code}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=f"urn:uuid:{occasion.id}",
        code=code,
        **extra,
    )


def _told(error: Exception) -> tuple[str, str, Mapping[str, object], int | None]:
    """Its code, detail and hints, and after how many seconds it may have passed. What nobody expects is logged."""
    if isinstance(error, RequestError):
        return error.code, error.detail, error.extra, None
    if isinstance(error, MemoryError):
        logger.error("out of memory", exc_info=error)
        return "out_of_memory", CODES["out_of_memory"].example, {}, _RETRY_SECONDS["out_of_memory"]
    code = _CODE_OF_ERROR.get(type(error))  # type: ignore[arg-type]
    if code is None:
        logger.error("unexpected error", exc_info=error)
        return "internal_error", CODES["internal_error"].example, {}, None
    if isinstance(error, QueueFull | BudgetSpent):
        return code, str(error), {}, int(error.retry_after_seconds or 1)
    if code == "backend_unavailable":
        # One line: while the backend is away every request says so. Where it came from is for whoever looks closely.
        closely = error if logger.isEnabledFor(logging.DEBUG) else None
        logger.warning("the backend failed: %s", error, exc_info=closely)
    return code, str(error), {}, _RETRY_SECONDS.get(code)


async def _on_error(request: Request, exc: Exception) -> Response:
    await hold_back(request, exc)
    code, detail, hints, seconds = _told(exc)
    headers = {} if seconds is None else {"Retry-After": str(seconds)}
    if code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    return problem(request, code, detail, headers=headers, extra=hints)


async def _on_http_error(request: Request, exc: Exception) -> Response:
    """The framework's own errors: no such path, no such method."""
    assert isinstance(exc, HTTPException)
    await hold_back(request, exc)
    code = _CODE_OF_STATUS.get(exc.status_code, "internal_error")
    headers = dict(exc.headers or {})
    path = ascii(request.url.path)[1:-1][:100]
    if code == "method_not_allowed":
        allowed = headers.pop("Allow", headers.pop("allow", ""))
        headers["Allow"] = "GET, HEAD" if allowed in ("GET", "HEAD, GET") else allowed
        detail = f"expected one of {headers['Allow']}, got {request.method[:20]} {path}"
    elif code == "not_found":
        detail = f"expected a path of this API, got {path}"
    else:
        detail = CODES[code].example
    return problem(request, code, detail, headers=headers)


async def _on_disconnect(request: Request, exc: Exception) -> Response:
    request.app.state.gateway.metrics.disconnects.inc()
    request.state.code = "client_left"
    return Response(status_code=_CLIENT_LEFT)
