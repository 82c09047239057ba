"""POST /v1/preview: what the network sees of an image. A POST, because a GET has no body to carry one."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request

from ...answering.preview_schemas import Preview
from ..openapi import PREVIEW_ANSWERS, PREVIEW_REQUEST
from ..previewing import previewed

__all__ = ("router",)

router = APIRouter()


@router.post(
    "/v1/preview",
    operation_id="preview",
    responses=PREVIEW_ANSWERS,
    openapi_extra=PREVIEW_REQUEST,
    summary="The noisy picture and what the denoiser makes of it, at each scale",
)
async def _preview(request: Request) -> Preview:
    """A few draws of each scale, to be looked at: none is ever counted, and their noise is no certificate's.

    Each is a sample of the client's budget. Backends that return votes alone answer 501.
    """
    return await previewed(request)
