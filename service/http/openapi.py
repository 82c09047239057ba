"""What /openapi.json says beyond the models: bodies, typed errors, headers and examples.

It is written for generators of clients too: bodies and problems are named components, operation ids are words, and
nothing is typed twice. Tests generate clients in two languages and validate every example.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ..answering.fields import FIELD_KINDS
from ..answering.schemas import CertifyFields, Timing
from ..errors import BackendUnavailable
from ..settings import Settings
from .context import Gateway
from .examples import ANSWER_EXAMPLE, request_examples
from .problem_schemas import headers_of, problem_schemas, problems
from .problems import CODES

__all__ = (
    "CERTIFY_ANSWERS",
    "CERTIFY_REQUEST",
    "INFO_ANSWERS",
    "KEYS_ANSWERS",
    "LIVE_ANSWERS",
    "METRICS_ANSWER",
    "READY_ANSWERS",
    "use_openapi",
)

Json = dict[str, Any]
_CERTIFY_PATHS = ("/v1/certify", "/certify")
# Of no route: a path, method or origin that is right never answers them.
_UNTYPED = {"not_found", "method_not_allowed", "origin_not_allowed"}
_DONE: dict[int | str, Json] = {200: {"headers": headers_of(200)}}

KEYS_ANSWERS = _DONE | problems("unknown_field", "internal_error")
# Not the envelope of signed=true: generators would give every answer two types, and make each caller ask which.
CERTIFY_ANSWERS = _DONE | problems(*(code for code in CODES if code not in _UNTYPED))
INFO_ANSWERS = _DONE | problems("unknown_field", "backend_unavailable", "internal_error")
READY_ANSWERS = _DONE | problems("backend_unavailable", "draining", "internal_error")
LIVE_ANSWERS = _DONE
_TEXT: Json = {"schema": {"type": "string"}}
METRICS_ANSWER: dict[int | str, Json] = {
    200: {"headers": headers_of(200), "content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT}},
}
_FORM, _JSON = "multipart/form-data", "application/json"
CERTIFY_REQUEST: Json = {
    # openapi-python-client 0.29 also needs it: without an optional parameter, its code for two kinds of bodies names a
    # type that it does not import (openapi-python-client#1451).
    "parameters": [
        {
            "name": "X-Request-ID",
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": "an id of yours, sent back and logged if it is at most 128 letters, digits and ._~:/+=@-",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            _FORM: {"schema": {"$ref": "#/components/schemas/CertifyForm"}},
            _JSON: {"schema": {"$ref": "#/components/schemas/CertifyJson"}},
        },
    },
}


def use_openapi(app: FastAPI, settings: Settings) -> None:
    """Let `app` describe itself: its form and JSON, its problems, and examples that suit what is served."""
    made: dict[str | None, Json] = {}  # by the bundle's digest, the last one only

    def openapi() -> Json:
        gateway: Gateway | None = getattr(app.state, "gateway", None)
        try:
            info = None if gateway is None else gateway.info
        except BackendUnavailable:
            info = None
        digest = None if info is None else info.bundle_digest
        if digest not in made:
            made.clear()
            schema = _document(app, settings)
            examples = request_examples(info, max_samples=settings.max_samples)
            for path in _CERTIFY_PATHS:
                operation = schema["paths"][path]["post"]
                operation["requestBody"]["content"][_JSON]["examples"] = examples
                # The framework drops null from examples, and half of an answer's meaning is what is null in it.
                operation["responses"]["200"]["content"][_JSON]["example"] = ANSWER_EXAMPLE
            made[digest] = schema
        return made[digest]

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI, settings: Settings) -> Json:
    schema = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
    )
    components = schema.setdefault("components", {})
    components.setdefault("schemas", {}).update(
        problem_schemas(), CertifyForm=_form(), CertifyJson=_json(), Timing=Timing.model_json_schema()
    )
    if settings.api_keys_file is not None:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path in _CERTIFY_PATHS:
            schema["paths"][path]["post"]["security"] = [{"key": []}]
    return schema


def _form() -> Json:
    """A form has no null: a field left blank is absent."""
    image = {"type": "string", "format": "binary", "description": "PNG, JPEG or WebP file, one frame"}
    return _body(image, _fields())


def _json() -> Json:
    """null is absent, and one number stands for a list of one."""
    fields = {}
    for name, field in _fields().items():
        said = field.pop("description")
        kinds = [field, field["items"]] if FIELD_KINDS[name].is_list else [field]
        fields[name] = {"anyOf": [*kinds, {"type": "null"}], "description": said}
    image = {
        "type": "string",
        "contentEncoding": "base64",
        "description": "PNG, JPEG or WebP file in base64; a data URL, the URL-safe alphabet and no padding are fine",
    }
    return _body(image, fields)


def _fields() -> Json:
    """Each field without null and its default, which the description says instead: generators would take a member with
    a default for one that is always there."""
    fields = {}
    for name, field in CertifyFields.model_json_schema()["properties"].items():
        kinds = field.get("anyOf", [field])
        (kind,) = (each for each in kinds if each != {"type": "null"})
        said = field["description"]
        if (default := field.get("default")) is not None:
            said += f"; default: {json.dumps(default)}"
        dropped = ("title", "default", "description")
        fields[name] = {key: value for key, value in kind.items() if key not in dropped} | {"description": said}
    return fields


def _body(image: Json, fields: Json) -> Json:
    return {
        "type": "object",
        "required": ["image"],
        "additionalProperties": False,
        "properties": {"image": image, **fields},
    }
