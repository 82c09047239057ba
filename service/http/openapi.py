"""What /openapi.json says beyond the models: bodies, typed errors, headers and examples.

It is written for generators of clients too: bodies and problems are named components, operation ids are words, and
nothing is typed twice. Tests generate clients in two languages and validate every example.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from ..answering.fields import kinds_of
from ..answering.preview_schemas import PreviewFields
from ..answering.progress_schemas import BatchLine, Progress
from ..answering.schemas import CertifyFields, Timing
from ..errors import BackendUnavailable
from ..settings import Settings
from .context import Gateway
from .examples import ANSWER_EXAMPLE, request_examples
from .json_bodies import MAX_NAME
from .problem_schemas import headers_of, problem_schemas, problems
from .problems import CODES

__all__ = (
    "BATCH_ANSWERS",
    "BATCH_REQUEST",
    "CERTIFY_ANSWERS",
    "CERTIFY_REQUEST",
    "INFO_ANSWERS",
    "KEYS_ANSWERS",
    "LIVE_ANSWERS",
    "METRICS_ANSWER",
    "PREVIEW_ANSWERS",
    "PREVIEW_REQUEST",
    "READY_ANSWERS",
    "use_openapi",
)

Json = dict[str, Any]
_CERTIFY_PATHS = ("/v1/certify", "/certify")
_KEYED_PATHS = (*_CERTIFY_PATHS, "/v1/certify/batch", "/v1/preview")
# Of no route: a path, method or origin that is right never answers them.
_UNTYPED = {"not_found", "method_not_allowed", "origin_not_allowed"}
_OF_PREVIEW, _OF_SAMPLES = "preview_unavailable", {"budget_too_small", "radius_unreachable", "deadline_exceeded"}
_DONE: dict[int | str, Json] = {200: {"headers": headers_of(200)}}

KEYS_ANSWERS = _DONE | problems("unknown_field", "internal_error")
_ASKING = [code for code in CODES if code not in _UNTYPED and code != _OF_PREVIEW]
# Neither the envelope of signed=true nor events: generators would give every answer several types, and make each caller
# ask which.
CERTIFY_ANSWERS = _DONE | problems(*_ASKING)
# Without a content: generators know no type of lines. BatchLine is a component for those who read them.
BATCH_ANSWERS = _DONE | problems(*_ASKING)
PREVIEW_ANSWERS = _DONE | problems(_OF_PREVIEW, *(code for code in _ASKING if code not in _OF_SAMPLES))
INFO_ANSWERS = _DONE | problems("unknown_field", "backend_unavailable", "internal_error")
READY_ANSWERS = _DONE | problems("backend_unavailable", "draining", "internal_error")
LIVE_ANSWERS = _DONE
_TEXT: Json = {"schema": {"type": "string"}}
METRICS_ANSWER: dict[int | str, Json] = {
    200: {"headers": headers_of(200), "content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT}},
}
_FORM, _JSON = "multipart/form-data", "application/json"


def _request(name: str) -> Json:
    """A body of two kinds, each a component."""
    return {
        # openapi-python-client 0.29 also needs it: without an optional parameter, its code for two kinds of bodies
        # names a type that it does not import (openapi-python-client#1451).
        "parameters": [
            {
                "name": "X-Request-ID",
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "description": "an id of yours, sent back and logged if it is at most 128 letters, digits and "
                "._~:/+=@-",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                _FORM: {"schema": {"$ref": f"#/components/schemas/{name}Form"}},
                _JSON: {"schema": {"$ref": f"#/components/schemas/{name}Json"}},
            },
        },
    }


CERTIFY_REQUEST, BATCH_REQUEST, PREVIEW_REQUEST = map(_request, ("Certify", "CertifyBatch", "Preview"))


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
            for path, examples in request_examples(info, max_samples=settings.max_samples).items():
                schema["paths"][path]["post"]["requestBody"]["content"][_JSON]["examples"] = examples
            for path in _CERTIFY_PATHS:
                # The framework drops null from examples, and half of an answer's meaning is what is null in it.
                schema["paths"][path]["post"]["responses"]["200"]["content"][_JSON]["example"] = ANSWER_EXAMPLE
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
    schemas = components.setdefault("schemas", {})
    schemas.update(problem_schemas(), **_bodies(), Timing=Timing.model_json_schema())
    for model in (BatchLine, Progress):  # of streams, which no operation names
        own = model.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
        for name, each in {**own.pop("$defs"), model.__name__: own}.items():
            schemas.setdefault(name, each)
    if settings.api_keys_file is not None:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path in _KEYED_PATHS:
            schema["paths"][path]["post"]["security"] = [{"key": []}]
    return schema


def _bodies() -> Json:
    """A form has no null: a blank field is absent. In JSON null is, and one number stands for a list of one."""
    file: Json = {"type": "string", "format": "binary", "description": "PNG, JPEG or WebP file, one frame"}
    text: Json = {
        "type": "string",
        "contentEncoding": "base64",
        "description": "PNG, JPEG or WebP file in base64; a data URL, the URL-safe alphabet and no padding are fine",
    }
    names: Json = {
        "type": "array",
        "items": {"type": "string", "maxLength": MAX_NAME},
        "description": "of the images, as many as there are",
    }
    form, json_fields = _fields(CertifyFields), _json_fields(CertifyFields)
    return {
        "CertifyForm": _body({"image": file, **form}),
        "CertifyJson": _body({"image": text, **json_fields}),
        "CertifyBatchForm": _body({"image": _several(file), **form}),
        "CertifyBatchJson": _body({"image": _several(text), "name": names, **json_fields}),
        "PreviewForm": _body({"image": file, **_fields(PreviewFields)}),
        "PreviewJson": _body({"image": text, **_json_fields(PreviewFields)}),
    }


def _several(image: Json) -> Json:
    return {"type": "array", "items": image, "minItems": 1, "description": "at most as many as /info says"}


def _json_fields(model: type[BaseModel]) -> Json:
    fields = {}
    for name, field in _fields(model).items():
        said = field.pop("description")
        kinds = [field, field["items"]] if kinds_of(model)[name].is_list else [field]
        fields[name] = {"anyOf": [*kinds, {"type": "null"}], "description": said}
    return fields


def _fields(model: type[BaseModel]) -> Json:
    """Each field without null and its default, which the description says instead: generators would take a member with
    a default for one that is always there."""
    fields = {}
    for name, field in model.model_json_schema()["properties"].items():
        kinds = field.get("anyOf", [field])
        (kind,) = (each for each in kinds if each != {"type": "null"})
        said = field["description"]
        if (default := field.get("default")) is not None:
            said += f"; default: {json.dumps(default)}"
        dropped = ("title", "default", "description")
        fields[name] = {key: value for key, value in kind.items() if key not in dropped} | {"description": said}
    return fields


def _body(properties: Json) -> Json:
    return {"type": "object", "required": ["image"], "additionalProperties": False, "properties": properties}
