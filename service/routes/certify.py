"""POST /certify: place, body, plan, image, turn, samples, answer. Whatever ends it, its place is given back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service.answers import make_answer
from service.bodies import Body, parse_body, read_limited
from service.driver import Run, drive
from service.errors import BackendUnavailable, DeadlineExceeded, Draining, RequestError
from service.gateway import Gateway, gateway_of
from service.images import Picture, decode_image
from service.openapi import CERTIFY_ANSWERS, CERTIFY_REQUEST
from service.plans import Plan, make_plan
from service.schemas import CertifyAnswer

__all__ = ("router",)

router = APIRouter()


@router.post(
    "/certify",
    response_model=CertifyAnswer,
    responses=CERTIFY_ANSWERS,
    openapi_extra={"requestBody": CERTIFY_REQUEST},
    summary="How far can this image be changed before the answer changes?",
)
async def certify(request: Request) -> Response:
    """Certify one image, or abstain and say why.

    Images: PNG, JPEG or WebP with one frame; 1- and 8-bit gray, 8-bit RGB, palettes, an alpha channel that is opaque
    everywhere. EXIF orientation is applied, colour profiles are ignored. 16-bit, CMYK and transparent images are
    refused with `unsupported_format`.

    In a form, `threshold` and `sigmas` are lists as repeated fields, comma-separated values or JSON lists.
    """
    gateway = gateway_of(request)
    with gateway.admission.place():
        body = await _read_body(request, gateway)
        # Off the loop: what these parameters can certify at best is some milliseconds of arithmetic.
        plan = await asyncio.get_running_loop().run_in_executor(
            gateway.decoders,
            partial(make_plan, body.fields, gateway.info, max_samples_allowed=gateway.settings.max_samples),
        )
        work = _answer(body, plan, gateway, arrival=request.state.arrival, request_id=request.state.request_id)
        answer = await _unless_gone(request, gateway, work)
    gateway.metrics.answered(answer)
    request.state.outcome = answer.outcome
    return JSONResponse(answer.model_dump(mode="json"))


async def _read_body(request: Request, gateway: Gateway) -> Body:
    settings = gateway.settings
    headers = request.headers
    try:
        async with asyncio.timeout(settings.body_seconds):
            content = await read_limited(
                request.stream(), declared=headers.get("content-length"), limit=settings.max_body_bytes
            )
    except TimeoutError:
        raise RequestError("malformed_body", f"body: expected all of it within {settings.body_seconds:g} s") from None
    parse = partial(
        parse_body,
        content,
        content_type=headers.get("content-type"),
        content_encoding=headers.get("content-encoding"),
    )
    return await asyncio.get_running_loop().run_in_executor(gateway.decoders, parse)


async def _answer(body: Body, plan: Plan, gateway: Gateway, *, arrival: float, request_id: str) -> CertifyAnswer:
    deadline = None
    if body.fields.deadline_ms is not None:
        # Arrival is on time.monotonic's clock; the loop may count from elsewhere.
        left = arrival + body.fields.deadline_ms / 1000 - time.monotonic()
        deadline = asyncio.get_running_loop().time() + left
    picture, run = await _sample(body, plan, gateway, deadline)
    return make_answer(
        request_id=request_id,
        run=run,
        plan=plan,
        picture=picture,
        info=gateway.info,
        total_seconds=time.monotonic() - arrival,
    )


async def _sample(body: Body, plan: Plan, gateway: Gateway, deadline: float | None) -> tuple[Picture, Run]:
    info = gateway.info
    decode = partial(
        decode_image,
        body.image,
        info.input_shape,
        resize=body.fields.resize,
        max_pixels=gateway.settings.max_pixels,
    )
    try:
        # Also around drive(), which ends itself at the same deadline with what it has: this one ends the waiting.
        async with asyncio.timeout_at(deadline) as waiting:
            picture = await asyncio.get_running_loop().run_in_executor(gateway.decoders, decode)
            scope = plan.seed_scope(picture.sha256, info.bundle_digest)
            async with gateway.admission.turn():
                waiting.reschedule(None)
                run = await drive(
                    gateway.backend,
                    plan.certifier(),
                    picture.tensor,
                    sigmas=plan.sigmas,
                    seed_of=partial(scope.seed, gateway.seed_key),
                    limits=gateway.call_limits,
                    deadline=deadline,
                )
    except TimeoutError:
        raise DeadlineExceeded("deadline_ms: the deadline came while the request waited for its turn") from None
    except BackendUnavailable:
        gateway.readiness.failed()
        raise
    gateway.readiness.answered()
    return picture, run


async def _unless_gone(request: Request, gateway: Gateway, work: Coroutine[Any, Any, CertifyAnswer]) -> CertifyAnswer:
    """Do `work`, but stop it when the client leaves (ClientDisconnect) or grace is over (Draining)."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    aborted = asyncio.create_task(gateway.admission.aborted.wait())
    tasks: tuple[asyncio.Task[Any], ...] = (task, gone, aborted)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if aborted.done():
            raise Draining("the service is shutting down and its grace period is over; ask another replica")
        raise ClientDisconnect
    finally:
        for each in tasks:
            each.cancel()
        # The place is given back only when the work has really stopped.
        await asyncio.gather(*tasks, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Return when the client has left. The body has been read, so nothing else can arrive."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
