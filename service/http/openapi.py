"""What /openapi.json says beyond the models: bodies, typed errors and examples. Tests validate every example here."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ..answering.schemas import CertifyFields, Problem
from .problems import CODES, MEDIA_TYPE

__all__ = (
    "ANSWER_EXAMPLE",
    "CERTIFY_ANSWERS",
    "CERTIFY_REQUEST",
    "INFO_ANSWERS",
    "METRICS_ANSWER",
    "READY_ANSWERS",
    "use_openapi",
)

Json = dict[str, Any]

# A handwritten three as an 8 x 8 gray PNG in base64, so that the example requests can be sent as they stand.
_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAPElEQVR42i3IQRGAMAwAwR0GGSCkQhASIwhpfRQhxEd40HvtHPTZ"
    "QNR7H9Apf9dCzVinVdgIT6ads3IMHz4ZEd871PjnAAAAAElFTkSuQmCC"
)

ANSWER_EXAMPLE: Json = {
    "id": "6f1c6a52-3c0f-4a54-9f3e-0a6a3f0a4f0e",
    "outcome": "certified",
    "abstain_reason": None,
    "label": {"index": 3, "name": "3"},
    "sigma": 0.5,
    "radius": 0.542185,
    "radius_norm": "l2",
    "radius_linf": 0.067773,
    "radius_l1": 0.542185,
    "requested_radius": 0.5,
    "norm": "l2",
    "method": "sampled",
    "noise": ["gaussian", "gaussian", "gaussian"],
    "uncertified_label": {"index": 3, "name": "3"},
    "alpha": 0.001,
    "threshold": [0.5, 0.5, 0.5],
    "final": "plurality",
    "samples_used": 512,
    "stages": [
        {
            "sigma": 1.0,
            "outcome": "passed",
            "samples": 192,
            "pilot_samples": 64,
            "count": 87,
            "rival_count": 32,
            "p_lower": 0.292464,
            "p_rival_upper": 0.293846,
            "radius_bound": 0.542185,
            "noise": "gaussian",
        },
        {
            "sigma": 0.5,
            "outcome": "path",
            "samples": 192,
            "pilot_samples": 64,
            "count": 185,
            "rival_count": 3,
            "p_lower": 0.878898,
            "p_rival_upper": 0.102036,
            "radius_bound": 0.584748,
            "noise": "gaussian",
        },
    ],
    "input": {
        "sha256": "b5aaa1951c15b85d16bd54294a6a08cfa5e45d7b9ab5d16261e98d22f6480d0b",
        "shape": [1, 8, 8],
        "range": [0, 1],
        "resized": False,
        "turned": False,
    },
    "bundle": {"name": "digits", "digest": "sha256:" + "0" * 64},
    "runtime": {
        "generator": "philox-int-1",
        "device": "cpu",
        "engine": "torch",
        "dtype": "float32",
        "micro_batch": 64,
    },
    "seed_key_fingerprint": "5f0c9d1a2b3e4c6d",
    "timing": {"total_seconds": 0.41, "sampling_seconds": 0.38},
}


def _problem_example(code: str) -> Json:
    kind = CODES[code]
    return {
        "type": f"urn:certify:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.example,
        "instance": "urn:uuid:6f1c6a52-3c0f-4a54-9f3e-0a6a3f0a4f0e",
        "code": code,
    }


def _problems(*codes: str) -> dict[int | str, Json]:
    """For a route's `responses`: each status with the codes that it can carry, typed, and an example of each."""
    responses: dict[int | str, Json] = {}
    for status in sorted({CODES[code].status for code in codes}):
        here = [code for code in codes if CODES[code].status == status]
        typed = {"properties": {"status": {"const": status}, "code": {"enum": here}}}
        responses[status] = {
            "description": "; ".join(CODES[code].title for code in here),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"allOf": [{"$ref": "#/components/schemas/Problem"}, typed]},
                    "examples": {code: {"value": _problem_example(code)} for code in here},
                }
            },
        }
    if 429 in responses:
        responses[429]["headers"] = {
            "Retry-After": {
                "description": "seconds after which a place is likely to be free",
                "schema": {"type": "integer"},
            }
        }
    return responses


def _body_schema(image: Json) -> Json:
    fields = CertifyFields.model_json_schema()
    return {
        "type": "object",
        "required": ["image"],
        "additionalProperties": False,
        "properties": {"image": image, **fields["properties"]},
    }


_UNTYPED = {"not_found", "method_not_allowed"}  # of no route: a path or method that exists never answers them
CERTIFY_ANSWERS = _problems(*(code for code in CODES if code not in _UNTYPED))
INFO_ANSWERS = _problems("backend_unavailable", "internal_error")
READY_ANSWERS = _problems("backend_unavailable", "draining", "internal_error")
METRICS_ANSWER: dict[int | str, Json] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
}
CERTIFY_REQUEST: Json = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": _body_schema(
                {"type": "string", "format": "binary", "description": "PNG, JPEG or WebP file, one frame"}
            ),
        },
        "application/json": {
            "schema": _body_schema(
                {"type": "string", "contentEncoding": "base64", "description": "PNG, JPEG or WebP file in base64"}
            ),
            "examples": {
                "how_far": {
                    "summary": "As far as 2,000 samples can certify",
                    "value": {"image": _PNG, "samples": 2000},
                },
                "this_far": {
                    "summary": "Does the answer hold within this radius?",
                    "value": {"image": _PNG, "radius": 0.5, "deadline_ms": 5000},
                },
            },
        },
    },
}


def use_openapi(app: FastAPI) -> None:
    """Let `app` describe itself with the Problem model, which no route returns in the framework's own way."""

    def openapi() -> Json:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            # The framework drops null from examples, and half of an answer's meaning is what is null in it.
            answers = schema["paths"]["/certify"]["post"]["responses"]
            answers["200"]["content"]["application/json"]["example"] = ANSWER_EXAMPLE
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
