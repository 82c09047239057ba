"""Problem documents as /openapi.json types them: one schema for each status, its codes and every hint a member of it.

One for each status, not one for each code: what generators make of it is a class to read, not a union of twelve.
"""

from __future__ import annotations

from typing import Any

from .problems import CODES, MEDIA_TYPE

__all__ = ("RETRY_AFTER", "headers_of", "problem_schemas", "problems")

Json = dict[str, Any]

# RFC 9110's phrases: Python's own change from one version to the next.
_NAMES = {
    400: "BadRequest",
    401: "Unauthorized",
    413: "ContentTooLarge",
    415: "UnsupportedMediaType",
    422: "UnprocessableContent",
    429: "TooManyRequests",
    500: "InternalServerError",
    501: "NotImplemented",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}
_HINTS: Json = {
    "field": {"type": "string", "description": "the field of the request that is wrong"},
    "max_body_bytes": {"type": "integer", "description": "largest body"},
    "max_pixels": {"type": "integer", "description": "most pixels of an image"},
    "max_side": {"type": "integer", "description": "most pixels of an image's side"},
    "expected_width": {"type": "integer", "description": "of the bundle's images, in pixels"},
    "expected_height": {"type": "integer", "description": "of the bundle's images, in pixels"},
    "sigmas": {"type": "array", "items": {"type": "number"}, "description": "the bundle's"},
    "max_batch": {"type": "integer", "description": "most images of one batch"},
    "max_samples": {"type": "integer", "description": "most samples that may be asked for"},
    "min_samples": {"type": "integer", "description": "smallest samples at which anything can be certified"},
    "max_radius": {"type": "number", "description": "largest radius that these scales, samples and alpha certify"},
}
_TIMING_EXAMPLE = {"total_seconds": 0.002, "sampling_seconds": 0.0}
_REQUEST_ID: Json = {
    "description": "the request's own X-Request-ID if it is at most 128 safe characters, else an id made here",
    "schema": {"type": "string"},
}
_SERVER_TIMING: Json = {
    "description": "what the time went to, in milliseconds: body, parsing, decoding, sampling, total",
    "schema": {"type": "string"},
}
RETRY_AFTER: Json = {"description": "seconds after which to ask again", "schema": {"type": "integer"}}


def headers_of(status: int) -> Json:
    """The headers that every answer with this status has."""
    headers = {"X-Request-ID": _REQUEST_ID, "Server-Timing": _SERVER_TIMING}
    return headers | ({"Retry-After": RETRY_AFTER} if status in (429, 503) else {})


def problems(*codes: str) -> dict[int | str, Json]:
    """For a route's `responses`: each status with an example of each code that it can carry there."""
    responses: dict[int | str, Json] = {}
    for status in sorted({CODES[code].status for code in codes}):
        here = [code for code in codes if CODES[code].status == status]
        responses[status] = {
            "description": "; ".join(CODES[code].title for code in here),
            "headers": headers_of(status),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": f"#/components/schemas/{_NAMES[status]}Problem"},
                    "examples": {code: {"value": _example(code)} for code in here},
                }
            },
        }
    return responses


def problem_schemas() -> Json:
    """The components that problems() refers to."""
    return {f"{name}Problem": _schema(status) for status, name in _NAMES.items()}


def _schema(status: int) -> Json:
    codes = [code for code, kind in CODES.items() if kind.status == status]
    hints: Json = {}
    for code in codes:
        for name in CODES[code].hints:
            hint = hints.setdefault(name, {**_HINTS[name]})
            hint.setdefault("codes", []).append(code)
    for hint in hints.values():
        named = hint.pop("codes")
        if named != codes:
            hint["description"] += f" (with {', '.join(named)})"
    members = {
        "type": {"type": "string", "description": "urn:certify:problem: and the code"},
        "title": {"type": "string"},
        "status": {"type": "integer", "const": status},
        "detail": {"type": "string", "description": "what was expected, what came, and where"},
        "instance": {"type": "string", "description": "urn:uuid: and the request's id"},
        "code": {"type": "string", "enum": codes, "description": "stable: programs read this one"},
        "timing": {"$ref": "#/components/schemas/Timing"},
    }
    return {
        "type": "object",
        "description": "RFC 9457",
        "required": [*members, "field"] if status == 422 else [*members],
        "properties": members | hints,
    }


def _example(code: str) -> Json:
    kind = CODES[code]
    return {
        "type": f"urn:certify:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.example,
        "instance": "urn:uuid:6f1c6a52-3c0f-4a54-9f3e-0a6a3f0a4f0e",
        "code": code,
        "timing": _TIMING_EXAMPLE,
        **kind.hints,
    }
