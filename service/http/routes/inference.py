"""The Open Inference Protocol (v2), for clients of Triton and KServe: the model `certify` answers with certificates.

Its own document describes it, so /openapi.json does not; docs/api.md says which tensors there are.
"""

from __future__ import annotations

import math

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ... import __version__
from ...answering.schemas import CertifyFields
from ..bodies import Body, check_encoding
from ..certifying import certified
from ..context import gateway_of
from ..inference import INPUT, MODEL, OUTPUTS, VERSION, Inference, parse_inference, write_inference
from .health import livez, readyz

__all__ = ("model_router", "router")

router = APIRouter(prefix="/v2", include_in_schema=False)
# Of what needs a backend that answers.
model_router = APIRouter(prefix=f"/v2/models/{MODEL}", include_in_schema=False)
_HEADER_LENGTH = "Inference-Header-Content-Length"

router.add_api_route("/health/live", livez)
router.add_api_route("/health/ready", readyz)
for _version in ("", f"/versions/{VERSION}"):
    router.add_api_route(f"/models/{MODEL}{_version}/ready", readyz)


@router.get("")
async def _server() -> Response:
    return JSONResponse({"name": "certify", "version": __version__, "extensions": ["binary_tensor_data"]})


@router.get(f"/models/{MODEL}/versions/{VERSION}")
@router.get(f"/models/{MODEL}")
async def _model() -> Response:
    outputs = [{"name": name, "datatype": kind, "shape": [1]} for name, kind in OUTPUTS.items()]
    return JSONResponse(
        {"name": MODEL, "versions": [VERSION], "platform": "certify", "inputs": [INPUT], "outputs": outputs}
    )


@model_router.post(f"/versions/{VERSION}/infer")
@model_router.post("/infer")
async def _infer(request: Request) -> Response:
    pixels = math.prod(gateway_of(request).info.input_shape)
    asked: list[Inference] = []

    def read(body: bytes, request: Request) -> Body[CertifyFields]:
        check_encoding(request.headers.get("content-encoding"))
        parsed, inference = parse_inference(body, header_length=request.headers.get(_HEADER_LENGTH), pixels=pixels)
        asked.append(inference)
        return parsed

    made = await certified(request, read)
    request.state.outcome = made.outcome
    body, head = write_inference(made, asked[0])
    if head is None:
        return Response(body, media_type="application/json")
    return Response(body, media_type="application/octet-stream", headers={_HEADER_LENGTH: str(head)})
