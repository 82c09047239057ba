"""GET /v1/keys, and /keys, its alias: the public keys that certificates are signed with."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from ...answering.signing import key_set
from ..context import gateway_of
from ..openapi import KEYS_ANSWERS

__all__ = ("router",)

router = APIRouter()


@router.get("/keys", include_in_schema=False)
@router.get("/v1/keys", operation_id="keys", summary="Public keys of signed certificates", responses=KEYS_ANSWERS)
async def _keys(request: Request) -> dict[str, list[dict[str, Any]]]:
    """A JWK set of Ed25519 keys (RFC 8037), empty where nothing is signed. Keep what you trust: an attacker could serve
    other ones."""
    signer = gateway_of(request).signer
    return key_set(() if signer is None else signer.keys)
