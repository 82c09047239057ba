"""POST /certify: key, body, place, budget, image, turns, answer. Whatever ends it, all of them are given back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ...answering.certify import Job, Question, answer, ask, run
from ...answering.driver import Run
from ...answering.image_headers import Header, read_header
from ...answering.plans import plan_made
from ...answering.schemas import CertifyAnswer
from ...errors import (
    BackendUnavailable,
    BudgetSpent,
    DeadlineExceeded,
    Draining,
    QueueFull,
    RequestError,
    Unauthorized,
)
from ...tracing import span
from ..admission import Place
from ..bodies import Body, parse_body
from ..connections import HeldBack
from ..context import Gateway, gateway_of
from ..keys import Client
from ..openapi import CERTIFY_ANSWERS, CERTIFY_REQUEST

__all__ = ("router",)

# Bodies up to it are parsed at once, in under two milliseconds at worst and a tenth of one as a rule: a thread's
# hand-over costs more. Icons and small digits are such.
_SMALL_BODY = 8 * 2**10
router = APIRouter()
T = TypeVar("T")


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
        made = await _certify_or_hold_back(request, gateway_of(request))
        current.set_attribute("outcome", made.outcome)
        current.set_attribute("samples_used", made.samples_used)
    request.state.outcome = made.outcome
    return Response(made.model_dump_json(), media_type="application/json")


async def _certify_or_hold_back(request: Request, gateway: Gateway) -> CertifyAnswer:
    try:
        return await _certify(request, gateway)
    except (QueueFull, BudgetSpent, Unauthorized) as error:
        refusal = error.with_traceback(None)  # its frames have the body, which is not to wait
        refusal.__context__ = None  # nor those of the cancellation that cut the body off
    # What waits so is nobody's work: its connection may be closed for another's.
    held_back = getattr(request.state, "held_back", None) or HeldBack()
    held_back.now = True
    held_back.forget()
    try:
        await gateway.admission.hold_back()
    finally:
        held_back.now = False
    raise refusal


async def _certify(request: Request, gateway: Gateway) -> CertifyAnswer:
    address = request.client.host if request.client else None
    client = gateway.keys.client(request.headers.get("authorization"), address=address)
    request.state.client = client.name
    with gateway.admission.arrival(client):
        # In a list, so that parsing can take it out: a file that waits for its turn is kept once, not twice.
        content = [await gateway.arrivals.read(request.stream(), declared=request.headers.get("content-length"))]
    if await request.is_disconnected():  # whoever sends and leaves takes no place from others
        raise ClientDisconnect
    with gateway.admission.place(client) as place:
        job, done = await _unless_gone(request, gateway, _work(content, request, gateway, client, place))
    made = answer(job, done, gateway.seed_key, request_id=request.state.request_id)
    gateway.metrics.answered(made, leading=dict(zip(job.plan.sigmas, done.leading, strict=True)), client=client.name)
    gateway.metrics.drew_ahead(done.ahead)
    return made


async def _work(
    content: list[bytes], request: Request, gateway: Gateway, client: Client, place: Place
) -> tuple[Job, Run]:
    """From the body's bytes, taken out of `content`, to votes. Samples are reserved before the image is
    decoded, and what is not drawn is not spent."""
    with gateway.arrivals.parsing(len(content[0])):
        header, question = await _parse(content, request, gateway)
    samples = question.plan.samples
    with gateway.admission.size(place, samples):
        async with gateway.budgets.reserve(client, samples) as reservation:
            try:
                job = await _decode(header, question, gateway, client)
                del header  # what waits for turns is the small tensor, not the file
                return job, await _sample(job, gateway, place)
            finally:
                reservation.used = place.drawn


async def _parse(content: list[bytes], request: Request, gateway: Gateway) -> tuple[Header, Question]:
    settings, headers = gateway.settings, request.headers
    content_type, encoding = headers.get("content-type"), headers.get("content-encoding")

    def parse() -> Body:
        return parse_body(content.pop(), content_type=content_type, content_encoding=encoding)

    def held_against_bundle(body: Body) -> tuple[Header, Question]:
        question = ask(body.fields, gateway.info, settings, arrival=request.state.arrival)
        return read_header(body.image), question

    parsed: list[Body] = []
    if len(content[0]) <= _SMALL_BODY:
        body = parse()
        if plan_made(body.fields, gateway.info, max_samples_allowed=settings.max_samples):
            return held_against_bundle(body)
        parsed.append(body)
    made: list[tuple[Header, Question] | RequestError] = []

    def work() -> None:
        try:
            made.append(held_against_bundle(parsed.pop() if parsed else parse()))
        except RequestError as error:
            made.append(error.with_traceback(None))  # its frames have the body

    # By way of a list: the executor's futures are a circle, and what they hold stays until it is collected.
    await asyncio.get_running_loop().run_in_executor(gateway.parsers, work)
    done = made.pop()
    if isinstance(done, RequestError):
        raise done from None
    return done


async def _decode(header: Header, question: Question, gateway: Gateway, client: Client) -> Job:
    shape, resize = question.info.input_shape, question.resize
    try:
        async with asyncio.timeout_at(question.loop_deadline()):
            picture = await gateway.decoders.decode(header, shape, resize=resize, lane=client.lane)
    except TimeoutError:
        raise DeadlineExceeded("deadline_ms: the deadline came while the image was being decoded") from None
    return Job(question=question, picture=picture)


async def _sample(job: Job, gateway: Gateway, place: Place) -> Run:
    try:
        done = await run(job, gateway.backend, gateway.seed_key, place.turn)
    except BackendUnavailable:
        gateway.readiness.failed()
        raise
    gateway.readiness.answered()
    return done


async def _unless_gone(request: Request, gateway: Gateway, work: Coroutine[Any, Any, T]) -> T:
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
        await asyncio.wait(tasks)
        if not task.cancelled():
            task.exception()  # seen: when the client left meanwhile, nobody else asks for it
        # An error's traceback has this frame, and a list of errors or a task in it would have the error: a body of
        # megabytes would stay in that circle until it is collected.
        del task, gone, aborted, tasks, each


async def _disconnected(request: Request) -> None:
    """Return when the client has left. The body has been read, so nothing else can arrive."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
