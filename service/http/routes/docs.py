"""GET /docs: Swagger UI, served from here so that it works without the internet; and a digit to try the API with.

Its document is /openapi.json with an example of each field of a form, since Swagger UI fills forms with these, or else
with the least that a schema allows. In /openapi.json itself they would be every generated client's business.
"""

from __future__ import annotations

import gzip
from copy import deepcopy
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..accepts import weights
from ..context import gateway_of
from ..examples import DIGIT, field_examples

__all__ = ("router",)

_ASSETS = Path(__file__).parents[1] / "swagger"
_SCRIPT, _STYLE = "swagger-ui-bundle.js", "swagger-ui.css"
_FORMS = ("CertifyForm", "CertifyBatchForm", "PreviewForm")
# A day: they change with a release.
_KEPT = {"Cache-Control": "max-age=86400", "Vary": "Accept-Encoding"}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def _page(request: Request) -> Response:
    top = request.scope.get("root_path", "")
    return get_swagger_ui_html(
        openapi_url=f"{top}/docs/openapi.json",
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


@router.get("/docs/openapi.json")
async def _document(request: Request) -> Response:
    schema, gateway = deepcopy(request.app.openapi()), gateway_of(request)
    info = gateway.info if gateway.serving.is_open else None
    for name, example in field_examples(info, max_samples=gateway.settings.max_samples).items():
        for form in _FORMS:
            if (field := schema["components"]["schemas"][form]["properties"].get(name)) is not None:
                field["examples"] = [example]
    return JSONResponse(schema)


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
