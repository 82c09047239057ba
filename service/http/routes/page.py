"""GET /: a page to certify a picture with, for whoever has a browser. What it is made of is in http/page/.

Its addresses are relative, therefore it works under a proxy's prefix; it loads nothing from elsewhere, and could not.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse

from ..examples import DIGIT

__all__ = ("router",)

_FILES = Path(__file__).parents[1] / "page"
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    # Nothing inline, nothing of another host, in no other page's frame. Pictures: ours, and the one that was chosen.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Kept, but asked after each time: a release changes it.
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def _page(request: Request) -> Response:
    page = _read("index.html")
    if top := request.scope.get("root_path", ""):
        # Whether the browser's address ends in a slash or not. The setting has no character that HTML minds.
        page = page.replace(b"<head>", f'<head>\n    <base href="{top}/" />'.encode(), 1)
    return _answer(request, page, "text/html")


@router.get("/page/digit.png")
async def _digit(request: Request) -> Response:
    return _answer(request, DIGIT, "image/png")


def _serve(path: Path) -> None:
    async def file(request: Request) -> Response:
        return _answer(request, _read(path.name), _KINDS[path.suffix])

    router.add_api_route(f"/page/{path.name}", file)


for _path in _FILES.iterdir():
    if _path.suffix in _KINDS:
        _serve(_path)


def _answer(request: Request, content: bytes, media_type: str) -> Response:
    headers = {**_HEADERS, "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}
    known = request.headers.get("if-none-match", "")
    if headers["ETag"] in known or known.strip() == "*":
        return NotModifiedResponse(Headers(headers))
    return Response(content, media_type=media_type, headers=headers)


@cache
def _read(name: str) -> bytes:
    return (_FILES / name).read_bytes()
