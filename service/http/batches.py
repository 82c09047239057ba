"""POST /v1/certify/batch: many images with one set of parameters, a line for each as soon as it is known.

Each image is what a request of its own would be: it takes a place and a part of the budget, waits for its turns, and
what is wrong with it is its own line's problem. Only a few are in work at once, the others are the bytes that came; a
line is put without a place, so that a client who reads slowly keeps nobody out.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import deque
from collections.abc import Iterator
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from ..answering.certify import Question, ask
from ..answering.plans import plan_made
from ..answering.schemas import CertifyAnswer, Problem
from ..errors import QueueFull, RequestError
from ..tracing import span
from .asking import SMALL_BODY, arrived, parse, phase
from .bodies import Batch, parse_batch
from .certificates import envelope_of, with_signature
from .certifying import Image, draw, finish, seen
from .context import Gateway, gateway_of
from .keys import Client
from .problems import Occasion, streamed
from .streams import Feed, Form, stream

__all__ = ("NDJSON", "certified_batch")

logger = logging.getLogger(__name__)

NDJSON = "application/x-ndjson"
# How often a large image may find no room to be decoded in: that passes within seconds.
_DECODING_TRIES = 10


async def certified_batch(request: Request) -> Response:
    """The stream of lines. Raises CertifyError for what is wrong with the request itself."""
    gateway = gateway_of(request)
    client, content = await arrived(request, gateway)
    batch = _Certifying(request, gateway, client)
    # An empty line is no JSON, and readers skip it.
    form = Form(media_type=NDJSON, silence=b"\n", last=batch.unsaid)
    return await stream(request, partial(batch.work, content), form)


class _Certifying:
    """One batch. What waits is in `_waiting`, with the name and the bytes of each image."""

    def __init__(self, request: Request, gateway: Gateway, client: Client) -> None:
        self._request = request
        self._gateway = gateway
        self._client = client
        self._waiting: deque[tuple[int, str, bytes | RequestError]] = deque()
        self._unsaid: dict[int, str] = {}

    async def work(self, content: list[bytes], feed: Feed) -> None:
        """content: the body, taken out of it."""
        gateway = self._gateway
        with gateway.admission.batch():
            with phase(self._request.state.phases, "parsing"):
                question = await parse(content, gateway, self._read, self._held_against_bundle, quick=self._quick)
            gateway.admission.check(self._client)
            await gateway.budgets.check(self._client, question.plan.samples)
            feed.begin()
            async with asyncio.TaskGroup() as lanes:
                for _ in range(min(gateway.settings.running, len(self._waiting))):
                    lanes.create_task(self._lane(question, feed))

    def unsaid(self, error: Exception) -> Iterator[bytes]:
        """Lines for all that have none yet, of the error that ended the work."""
        for index, name in self._unsaid.items():
            occasion = Occasion(id=str(uuid.uuid4()), arrival=time.monotonic(), phases={})
            yield _line(index, name, "problem", _json(streamed(self._request, error, occasion)))

    def _read(self, body: bytes) -> Batch:
        headers, most = self._request.headers, self._gateway.settings.max_batch
        kind, encoding = headers.get("content-type"), headers.get("content-encoding")
        return parse_batch(body, content_type=kind, content_encoding=encoding, most=most)

    def _quick(self, batch: Batch) -> bool:
        return plan_made(batch.fields, self._gateway.info, max_samples_allowed=self._gateway.settings.max_samples)

    def _held_against_bundle(self, batch: Batch) -> Question:
        fields, gateway = with_signature(batch.fields, self._request), self._gateway
        question = ask(fields, gateway.info, gateway.settings, arrival=self._request.state.arrival)
        for index, (name, image) in enumerate(batch.images):
            self._waiting.append((index, name, image))
            self._unsaid[index] = name
        return question

    async def _lane(self, question: Question, feed: Feed) -> None:
        """One image after the other."""
        while self._waiting:
            index, name, image = self._waiting.popleft()
            held = [image]
            del image
            await feed.put(await self._certified(index, name, held, question))
            del self._unsaid[index]

    async def _certified(self, index: int, name: str, held: list[bytes | RequestError], question: Question) -> bytes:
        """The line of one image, taken out of `held`."""
        occasion = Occasion(id=str(uuid.uuid4()), arrival=time.monotonic(), phases={})
        facts: dict[str, object] = {"id": occasion.id, "index": index}
        try:
            with span("image", {"certify.request_id": occasion.id, "certify.index": index}):
                made = await self._answer(held, question, occasion)
            facts |= {"outcome": made.outcome, "seconds": made.timing.total_seconds}
            envelope = envelope_of(made, self._request)
            member = ("answer", _json(made)) if envelope is None else ("certificate", envelope)
        except Exception as error:
            problem = streamed(self._request, error, occasion)
            facts |= {"code": problem.code, "seconds": problem.model_dump()["timing"]["total_seconds"]}
            member = ("problem", _json(problem))
        logger.info("image", extra={"facts": facts})
        return _line(index, name, *member)

    async def _answer(self, held: list[bytes | RequestError], question: Question, occasion: Occasion) -> CertifyAnswer:
        gateway, client = self._gateway, self._client
        image = [await self._seen(held.pop(), question)]
        tries = 0
        while True:
            try:
                async with gateway.admission.next_place(client, question.plan.samples) as place:
                    own = question.arriving(time.monotonic())  # its deadline is its own
                    drawn = await draw(image, own, gateway, client, place, occasion.phases)
                return finish(drawn, gateway, client, request_id=occasion.id)
            except QueueFull as full:  # of the decoders
                tries += 1
                if tries == _DECODING_TRIES:
                    raise
                await asyncio.sleep(full.retry_after_seconds or 1)

    async def _seen(self, image: bytes | RequestError, question: Question) -> Image:
        if isinstance(image, RequestError):
            raise image
        if len(image) <= SMALL_BODY:
            return seen(image, question.info)
        return await asyncio.get_running_loop().run_in_executor(self._gateway.parsers, seen, image, question.info)


def _json(model: CertifyAnswer | Problem) -> bytes:
    return model.model_dump_json().encode()


def _line(index: int, name: str, member: str, document: bytes) -> bytes:
    """document: JSON without line breaks."""
    return b'{"index":%d,"name":%b,"%b":%b}\n' % (index, json.dumps(name).encode(), member.encode(), document)
