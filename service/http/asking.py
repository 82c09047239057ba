"""One image and its fields, however they came, to an answer: key, body, place, budget, image, turns. Whatever ends it,
all of them are given back. A route says how its body is read, and how the answer is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from ..answering.certify import Job, Question, answer, ask, run
from ..answering.driver import Run
from ..answering.image_headers import Header, read_header
from ..answering.images import Picture, picture_of
from ..answering.plans import plan_made
from ..answering.schemas import CertifyAnswer
from ..errors import (
    BackendUnavailable,
    BudgetSpent,
    DeadlineExceeded,
    Draining,
    QueueFull,
    RequestError,
    Unauthorized,
)
from ..tracing import annotate
from .admission import Place
from .bodies import Body
from .connections import HeldBack
from .context import Gateway, gateway_of
from .keys import Client

__all__ = ("Reader", "certified")

# Bodies up to it are parsed at once, in under two milliseconds at worst and a tenth of one as a rule: a thread's
# hand-over costs more. Icons and small digits are such.
_SMALL_BODY = 8 * 2**10
T = TypeVar("T")
# A whole body, and the request whose headers say what it is -> its fields and image. Raises RequestError.
Reader = Callable[[bytes, Request], Body]


async def certified(request: Request, read: Reader) -> CertifyAnswer:
    """The answer to a request whose body `read` understands. Raises CertifyError, or ClientDisconnect.

    A refusal of a flood is held back (http/admission.py).
    """
    gateway = gateway_of(request)
    try:
        return await _certify(request, read, gateway)
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


async def _certify(request: Request, read: Reader, gateway: Gateway) -> CertifyAnswer:
    address = request.client.host if request.client else None
    client = gateway.keys.client(request.headers.get("authorization"), address=address)
    request.state.client = client.name
    with gateway.admission.arrival(client):
        # In a list, so that parsing can take it out: a file that waits for its turn is kept once, not twice.
        with _phase(request, "body"):
            content = [await gateway.arrivals.read(request.stream(), declared=request.headers.get("content-length"))]
    if await request.is_disconnected():  # whoever sends and leaves takes no place from others
        raise ClientDisconnect
    with gateway.admission.place(client) as place:
        job, done = await _unless_gone(request, gateway, _work(content, request, read, gateway, client, place))
    made = answer(job, done, gateway.seed_key, request_id=request.state.request_id)
    gateway.metrics.answered(made, leading=dict(zip(job.plan.sigmas, done.leading, strict=True)), client=client.name)
    gateway.metrics.drew_ahead(done.ahead)
    annotate(outcome=made.outcome, samples_used=made.samples_used)
    return made


async def _work(
    content: list[bytes], request: Request, read: Reader, gateway: Gateway, client: Client, place: Place
) -> tuple[Job, Run]:
    """From the body's bytes, taken out of `content`, to votes. Samples are reserved before the image is
    decoded, and what is not drawn is not spent."""
    with gateway.arrivals.parsing(len(content[0])), _phase(request, "parsing"):
        image, question = await _parse(content, request, read, gateway)
    samples = question.plan.samples
    with gateway.admission.size(place, samples):
        async with gateway.budgets.reserve(client, samples) as reservation:
            try:
                with _phase(request, "decoding"):
                    job = await _decode(image, question, gateway, client)
                del image  # what waits for turns is the small tensor, not the file
                with _phase(request, "sampling"):
                    return job, await _sample(job, gateway, place)
            finally:
                reservation.used = place.drawn


async def _parse(
    content: list[bytes], request: Request, read: Reader, gateway: Gateway
) -> tuple[Header | Picture, Question]:
    settings = gateway.settings

    def parse() -> Body:
        return read(content.pop(), request)

    def held_against_bundle(body: Body) -> tuple[Header | Picture, Question]:
        question = ask(body.fields, gateway.info, settings, arrival=request.state.arrival)
        if isinstance(body.image, bytes):
            return read_header(body.image), question
        return picture_of(body.image, question.info.input_shape), question

    parsed: list[Body] = []
    if len(content[0]) <= _SMALL_BODY:
        body = parse()
        if plan_made(body.fields, gateway.info, max_samples_allowed=settings.max_samples):
            return held_against_bundle(body)
        parsed.append(body)
    made: list[tuple[Header | Picture, Question] | RequestError] = []

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


async def _decode(image: Header | Picture, question: Question, gateway: Gateway, client: Client) -> Job:
    if isinstance(image, Picture):
        return Job(question=question, picture=image)
    shape, resize = question.info.input_shape, question.resize
    try:
        async with asyncio.timeout_at(question.loop_deadline()):
            picture = await gateway.decoders.decode(image, shape, resize=resize, lane=client.lane)
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


@contextlib.contextmanager
def _phase(request: Request, name: str) -> Iterator[None]:
    """Notes how long the block took, for the answer's Server-Timing or the error's timing."""
    began = time.monotonic()
    try:
        yield
    finally:
        request.state.phases[name] = time.monotonic() - began


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
