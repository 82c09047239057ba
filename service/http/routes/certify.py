"""POST /certify: body, place, plan, image, turn, samples, answer. Whatever ends it, its place is given back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ...answering.answers import make_answer
from ...answering.driver import Run, drive
from ...answering.images import Picture, decode_image
from ...answering.plans import Plan, make_plan
from ...answering.schemas import CertifyAnswer, CertifyFields
from ...errors import BackendUnavailable, DeadlineExceeded, Draining
from ...tracing import span
from ..bodies import parse_body
from ..context import Gateway, gateway_of
from ..openapi import CERTIFY_ANSWERS, CERTIFY_REQUEST

__all__ = ("router",)

router = APIRouter()

# Kept back from a deadline to make and send the answer, and for a busy loop to notice: at most a tenth of it.
_ANSWER_SECONDS = 0.03


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
    with span("POST /certify", {"request_id": request.state.request_id}, headers=request.headers) as current:
        answer = await _certify(request, gateway_of(request))
        current.set_attribute("outcome", answer.outcome)
        current.set_attribute("samples_used", answer.samples_used)
    request.state.outcome = answer.outcome
    return JSONResponse(answer.model_dump(mode="json"))


async def _certify(request: Request, gateway: Gateway) -> CertifyAnswer:
    with gateway.admission.arrival():
        content = await gateway.arrivals.read(request.stream(), declared=request.headers.get("content-length"))
    with gateway.admission.place():
        job = await _prepare(content, request, gateway)
        run = await _unless_gone(request, gateway, _sample(job, gateway))
    answer = make_answer(
        request_id=request.state.request_id,
        run=run,
        plan=job.plan,
        picture=job.picture,
        info=gateway.info,
        total_seconds=time.monotonic() - request.state.arrival,
    )
    gateway.metrics.answered(answer, leading=dict(zip(job.plan.sigmas, run.leading, strict=True)))
    return answer


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A request that can be sampled. It keeps the small tensor, not the body, while it waits for its turn."""

    plan: Plan
    picture: Picture
    deadline: float | None  # in the event loop's time


async def _prepare(content: bytes, request: Request, gateway: Gateway) -> _Job:
    settings, headers = gateway.settings, request.headers
    loop = asyncio.get_running_loop()
    content_type, encoding = headers.get("content-type"), headers.get("content-encoding")

    def work() -> tuple[CertifyFields, Plan, Picture]:
        body = parse_body(content, content_type=content_type, content_encoding=encoding)
        fields, info = body.fields, gateway.info
        # Before the image: parameters are cheaper to refuse.
        plan = make_plan(fields, info, max_samples_allowed=settings.max_samples)
        picture = decode_image(body.image, info.input_shape, resize=fields.resize, max_pixels=settings.max_pixels)
        return fields, plan, picture

    fields, plan, picture = await loop.run_in_executor(gateway.decoders, work)
    deadline = None
    if fields.deadline_ms is not None:
        whole = fields.deadline_ms / 1000
        # Arrival is on time.monotonic's clock; the loop may count from elsewhere.
        arrival = loop.time() - time.monotonic() + request.state.arrival
        deadline = arrival + whole - min(_ANSWER_SECONDS, whole / 10)
    return _Job(plan=plan, picture=picture, deadline=deadline)


async def _sample(job: _Job, gateway: Gateway) -> Run:
    plan, picture = job.plan, job.picture
    scope = plan.seed_scope(picture.sha256, gateway.info.bundle_digest)
    try:
        # This deadline ends the waiting; drive() ends itself at the same one, with what it has by then.
        async with asyncio.timeout_at(job.deadline) as waiting, gateway.admission.turn():
            waiting.reschedule(None)
            run = await drive(
                gateway.backend,
                plan.certifier(),
                picture.tensor,
                sigmas=plan.sigmas,
                seed_of=partial(scope.seed, gateway.seed_key),
                limits=gateway.call_limits,
                deadline=job.deadline,
            )
    except TimeoutError:
        raise DeadlineExceeded("deadline_ms: the deadline came while the request waited for its turn") from None
    except BackendUnavailable:
        gateway.readiness.failed()
        raise
    gateway.readiness.answered()
    return run


async def _unless_gone(request: Request, gateway: Gateway, work: Coroutine[Any, Any, Run]) -> Run:
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
