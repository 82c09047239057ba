"""Signed answers: whether a request wants one, and whether there is a key for it."""

from __future__ import annotations

from starlette.requests import Request

from ..answering.evidence import payload_of
from ..answering.schemas import CertifyAnswer, CertifyFields
from ..answering.signing import PAYLOAD_TYPE, Signer
from ..errors import RequestError
from .accepts import asks_for
from .context import gateway_of

__all__ = ("envelope_of", "with_signature")


def with_signature(fields: CertifyFields, request: Request) -> CertifyFields:
    """`fields`, signed if the Accept header says so. Raises RequestError where nothing can be signed: before anything
    is drawn.
    """
    request.state.signed = fields.signed or asks_for(request.headers, PAYLOAD_TYPE)
    if not request.state.signed:
        return fields
    _signer_of(request)
    return fields.model_copy(update={"signed": True})


def envelope_of(answer: CertifyAnswer, request: Request) -> bytes | None:
    """The signed certificate, JSON; None where none is wanted."""
    if not request.state.signed or answer.evidence is None:
        return None
    return _signer_of(request).sign(payload_of(answer.evidence))


def _signer_of(request: Request) -> Signer:
    """Raises RequestError where there is none, or none that is good today."""
    signer = gateway_of(request).signer
    if signer is not None and signer.good:
        return signer
    lack = "no key to sign with" if signer is None else f"no key that is good today, its {signer.keys[0].id} is not"
    detail = f"signed: expected false, since this service has {lack} (CERTIFY_SIGNING_KEY_FILE)"
    raise RequestError("out_of_range", detail, field="signed")
