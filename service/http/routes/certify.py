"""POST /v1/certify, and /certify, its alias: a form or JSON in, an answer out."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ...answering.evidence import payload_of
from ...answering.schemas import CertifyAnswer
from ...answering.signing import PAYLOAD_TYPE, Signer
from ...errors import RequestError
from ..asking import certified
from ..bodies import Body, parse_body
from ..context import gateway_of
from ..openapi import CERTIFY_ANSWERS, CERTIFY_REQUEST

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
    """
    made = await certified(request, _read)
    request.state.outcome = made.outcome
    if request.state.signed and made.evidence is not None:
        signer = _signer_of(request)
        return Response(signer.sign(payload_of(made.evidence)), media_type=PAYLOAD_TYPE)
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


def _read(body: bytes, request: Request) -> Body:
    headers = request.headers
    read = parse_body(body, content_type=headers.get("content-type"), content_encoding=headers.get("content-encoding"))
    request.state.signed = read.fields.signed or PAYLOAD_TYPE in headers.get("accept", "")
    if not request.state.signed:
        return read
    _signer_of(request)  # before anything is drawn
    return replace(read, fields=read.fields.model_copy(update={"signed": True}))


def _signer_of(request: Request) -> Signer:
    """Raises RequestError where there is none, or none that is good today."""
    signer = gateway_of(request).signer
    if signer is not None and signer.good:
        return signer
    lack = "no key to sign with" if signer is None else f"no key that is good today, its {signer.keys[0].id} is not"
    detail = f"signed: expected false, since this service has {lack} (CERTIFY_SIGNING_KEY_FILE)"
    raise RequestError("out_of_range", detail, field="signed")
