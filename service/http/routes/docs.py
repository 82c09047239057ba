"""GET /docs: Swagger UI, served from here so that it works without the internet; and a digit to try the API with."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import Response

from ..accepts import weights
from ..examples import DIGIT

__all__ = ("router",)

_ASSETS = Path(__file__).parents[1] / "swagger"
_SCRIPT, _STYLE = "swagger-ui-bundle.js", "swagger-ui.css"
# A day: they change with a release.
_KEPT = {"Cache-Control": "max-age=86400", "Vary": "Accept-Encoding"}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def _page(request: Request) -> Response:
    top = request.scope.get("root_path", "")
    return get_swagger_ui_html(
        openapi_url=f"{top}/openapi.json",
        title="certify",
        swagger_js_url=f"{top}/docs/{_SCRIPT}",
        swagger_css_url=f"{top}/docs/{_STYLE}",
        swagger_favicon_url="data:,",
    )


@router.get(f"/docs/{_SCRIPT}")
async def _script(request: Request) -> Response:
    return _asset(request, _SCRIPT, "text/javascript")


@router.get(f"/docs/{_STYLE}")
async def _style(request: Request) -> Response:
    return _asset(request, _STYLE, "text/css")


@router.get("/docs/digit.png")
async def _digit() -> Response:
    return Response(DIGIT, media_type="image/png")


def _asset(request: Request, name: str, media_type: str) -> Response:
    packed = _packed(name)
    if weights(request.headers.get("accept-encoding", "")).get("gzip", 0.0) > 0:
        return Response(packed, media_type=media_type, headers={**_KEPT, "Content-Encoding": "gzip"})
    return Response(gzip.decompress(packed), media_type=media_type, headers=_KEPT)


@cache
def _packed(name: str) -> bytes:
    """Half a megabyte, read when somebody first looks at the page."""
    return (_ASSETS / f"{name}.gz").read_bytes()
