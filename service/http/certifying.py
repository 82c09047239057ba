"""One image -> one answer, in a place that it holds: budget, decoding, turns. Whatever ends it, all are given back.

certified() answers one request; http/watching.py does it in sight, http/batches.py with each of its images.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from ..answering.certify import Job, Question, answer, ask, run
from ..answering.driver import Run
from ..answering.image_headers import Header, read_header
from ..answering.images import Picture, picture_of
from ..answering.kept import again
from ..answering.plans import plan_made
from ..answering.progress import Watch
from ..answering.schemas import CertifyAnswer, CertifyFields
from ..backends.base import BackendInfo
from ..errors import BackendUnavailable, DeadlineExceeded
from ..tracing import annotate
from .admission import Place
from .asking import arrived, parse, phase, unless_gone
from .bodies import Body
from .context import Gateway, gateway_of
from .keys import Client

__all__ = ("Drawn", "Image", "Reader", "certified", "decode", "draw", "finish", "seen", "work")

# A whole body, and the request whose headers say what it is -> its fields and image. Raises RequestError.
Reader = Callable[[bytes, Request], Body[CertifyFields]]
# Of a file, by its header, or a tensor.
Image = Header | Picture


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What came of one image: votes, or an answer that was kept."""

    job: Job
    done: Run | CertifyAnswer


async def certified(request: Request, read: Reader) -> CertifyAnswer:
    """The answer to a request whose body `read` understands. Raises CertifyError, or ClientDisconnect."""
    gateway = gateway_of(request)
    client, content = await arrived(request, gateway)
    with gateway.admission.place(client) as place:
        drawn = await unless_gone(request, gateway, work(content, request, read, gateway, client, place))
    return finish(drawn, gateway, client, request_id=request.state.request_id)


async def work(
    content: list[bytes],
    request: Request,
    read: Reader,
    gateway: Gateway,
    client: Client,
    place: Place,
    watch: Watch | None = None,
) -> Drawn:
    """From the body's bytes, taken out of `content`, to votes. watch: told when samples begin, and of each look.

    Raises CertifyError.
    """
    phases = request.state.phases

    def held_against_bundle(body: Body[CertifyFields]) -> tuple[list[Image], Question]:
        question = ask(body.fields, gateway.info, gateway.settings, arrival=request.state.arrival)
        return [seen(body.image, question.info)], question

    def quick(body: Body[CertifyFields]) -> bool:
        return plan_made(body.fields, gateway.info, max_samples_allowed=gateway.settings.max_samples)

    with phase(phases, "parsing"):
        image, question = await parse(
            content, gateway, lambda body: read(body, request), held_against_bundle, quick=quick
        )
    with gateway.admission.size(place, question.plan.samples):
        return await draw(image, question, gateway, client, place, phases, watch)


def seen(image: bytes | NDArray[np.uint8 | np.float32], info: BackendInfo) -> Image:
    """A file's header, or a tensor as a picture. Raises RequestError."""
    if isinstance(image, bytes):
        return read_header(image)
    return picture_of(image, info.input_shape)


async def draw(
    image: list[Image],
    question: Question,
    gateway: Gateway,
    client: Client,
    place: Place,
    phases: MutableMapping[str, float],
    watch: Watch | None = None,
) -> Drawn:
    """From one image, taken out of `image`, to votes. Samples are reserved before it is decoded, and what is not drawn
    is not spent. Raises CertifyError.
    """
    async with gateway.budgets.reserve(client, question.plan.samples) as reservation:
        try:
            with phase(phases, "decoding"):
                job = Job(question=question, picture=await _decoded(image, question, gateway, client))
            if (kept := gateway.answers.find(job, client.name)) is not None:
                return Drawn(job=job, done=kept)
            if watch is not None:
                watch.begin(job)
            with phase(phases, "sampling"):
                return Drawn(job=job, done=await _sample(job, gateway, place, watch))
        finally:
            reservation.used = place.drawn


def finish(drawn: Drawn, gateway: Gateway, client: Client, *, request_id: str) -> CertifyAnswer:
    """What the caller reads; it is counted, and kept if answers are. The place may be given back before."""
    job, done = drawn.job, drawn.done
    if isinstance(done, CertifyAnswer):
        made = again(job, done, request_id=request_id)
        gateway.metrics.repeated(made)
        annotate(outcome=made.outcome, samples_used=0)
        return made
    made = answer(job, done, gateway.seed_key, request_id=request_id)
    gateway.metrics.answered(made, leading=dict(zip(job.plan.sigmas, done.leading, strict=True)), client=client.name)
    gateway.metrics.drew_ahead(done.ahead)
    gateway.answers.keep(job, client.name, done, made)
    annotate(outcome=made.outcome, samples_used=made.samples_used)
    return made


async def _decoded(image: list[Image], question: Question, gateway: Gateway, client: Client) -> Picture:
    try:
        async with asyncio.timeout_at(question.loop_deadline()):
            return await decode(image, gateway, client, question.info, resize=question.resize)
    except TimeoutError:
        raise DeadlineExceeded("deadline_ms: the deadline came while the image was being decoded") from None


async def decode(image: list[Image], gateway: Gateway, client: Client, info: BackendInfo, *, resize: bool) -> Picture:
    """What waits for turns afterwards is the small tensor, not the file: it is taken out of `image`, once decoded."""
    here = image[0]
    if isinstance(here, Picture):
        return here
    picture = await gateway.decoders.decode(here, info.input_shape, resize=resize, lane=client.lane)
    image.clear()
    return picture


async def _sample(job: Job, gateway: Gateway, place: Place, watch: Watch | None) -> Run:
    try:
        done = await run(job, gateway.backend, gateway.seed_key, place.turn, None if watch is None else watch.note)
    except BackendUnavailable:
        gateway.readiness.failed()
        raise
    gateway.readiness.answered()
    return done
