"""POST /v1/certify, and /certify, its alias: a form or JSON in, an answer out; and a batch of them."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ...answering.schemas import CertifyAnswer, CertifyFields
from ...answering.signing import PAYLOAD_TYPE
from ..accepts import asks_for
from ..batches import certified_batch
from ..bodies import Body, parse_body
from ..certificates import envelope_of, with_signature
from ..certifying import certified
from ..openapi import BATCH_ANSWERS, BATCH_REQUEST, CERTIFY_ANSWERS, CERTIFY_REQUEST
from ..watching import EVENTS, watched

__all__ = ("router",)

router = APIRouter()
_SUMMARY = "How far can this image be changed before the answer changes?"


@router.post(
    "/v1/certify",
    operation_id="certify",
    response_model=CertifyAnswer,
    responses=CERTIFY_ANSWERS,
    openapi_extra=CERTIFY_REQUEST,
    summary=_SUMMARY,
)
async def certify(request: Request) -> Response:
    """Certify one image, or abstain and say why.

    Images: PNG, JPEG or WebP with one frame; 1- and 8-bit gray, 8-bit RGB, palettes, an alpha channel that is opaque
    everywhere. EXIF orientation is applied, colour profiles are ignored. 16-bit, CMYK and transparent images are
    refused with `unsupported_format`. To try it out: [a digit](docs/digit.png).

    In a form, `threshold` and `sigmas` are lists as repeated fields, comma-separated values or JSON lists; a field left
    blank is absent.

    With `signed`, or `Accept: application/vnd.certify.certificate.v1+json`, the answer is a certificate of that type: a
    DSSE envelope around the evidence (docs/certificates.md).

    With `Accept: text/event-stream`, what is proved so far comes as server-sent events, then the answer (docs/api.md).
    """
    if asks_for(request.headers, EVENTS):
        return await watched(request, _read)
    made = await certified(request, _read)
    request.state.outcome = made.outcome
    envelope = envelope_of(made, request)
    if envelope is not None:
        return Response(envelope, media_type=PAYLOAD_TYPE)
    return Response(made.model_dump_json(), media_type="application/json")


@router.post(
    "/certify",
    operation_id="certifyAlias",
    response_model=CertifyAnswer,
    responses=CERTIFY_ANSWERS,
    openapi_extra=CERTIFY_REQUEST,
    summary="The same as /v1/certify, under its first name",
    deprecated=True,
)
async def _alias(request: Request) -> Response:
    """Answers exactly as /v1/certify does, and stays. Build on /v1/certify: docs/api.md says what may change there."""
    return await certify(request)


@router.post(
    "/v1/certify/batch",
    operation_id="certifyBatch",
    responses=BATCH_ANSWERS,
    openapi_extra=BATCH_REQUEST,
    response_class=Response,
    summary="As /v1/certify, of many images",
)
async def _batch(request: Request) -> Response:
    """Certify many images with one set of parameters.

    The answer is `application/x-ndjson`: a BatchLine for each image as soon as it is known, with its index and name; a
    bad image is its own line's problem. Empty lines mean nothing (docs/api.md).
    """
    return await certified_batch(request)


def _read(body: bytes, request: Request) -> Body[CertifyFields]:
    headers = request.headers
    read = parse_body(body, content_type=headers.get("content-type"), content_encoding=headers.get("content-encoding"))
    return replace(read, fields=with_signature(read.fields, request))
