"""POST /v1/certify with Accept: text/event-stream: what is proved so far, as server-sent events, and then the answer.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from ..answering.progress import Watch
from ..answering.progress_schemas import Progress
from .asking import arrived
from .certificates import envelope_of
from .certifying import Reader, finish, work
from .context import Gateway, gateway_of
from .keys import Client
from .problems import Occasion, streamed
from .streams import Feed, Form, stream

__all__ = ("EVENTS", "watched")

EVENTS = "text/event-stream"
# Between two events of progress: at most eight in a second, and ten events with the last two.
_BETWEEN_SECONDS = 0.125


async def watched(request: Request, read: Reader) -> Response:
    """As certified(), as it goes on. Raises CertifyError for what is wrong before the first sample."""
    gateway = gateway_of(request)
    client, content = await arrived(request, gateway)

    def last(error: Exception) -> Iterator[bytes]:
        yield _event("problem", streamed(request, error, Occasion.of(request)).model_dump_json().encode())

    form = Form(media_type=EVENTS, silence=b": still there\n\n", last=last)
    return await stream(request, partial(_work, content, request, read, gateway, client), form)


async def _work(
    content: list[bytes], request: Request, read: Reader, gateway: Gateway, client: Client, feed: Feed
) -> None:
    watch = Watch(feed.begin)
    teller = _Teller(watch, feed)
    async with teller.at_work():
        with gateway.admission.place(client) as place:
            drawn = await work(content, request, read, gateway, client, place, watch)
    made = finish(drawn, gateway, client, request_id=request.state.request_id)
    request.state.outcome = made.outcome
    feed.begin()  # an answer that was kept has had no samples
    if watch.begun:
        await teller.tell()
    envelope = envelope_of(made, request)
    if envelope is None:
        await feed.put(_event("answer", made.model_dump_json().encode()))
    else:
        await feed.put(_event("certificate", envelope))


class _Teller:
    """Puts what has changed of `watch` into `feed`, but not too often."""

    def __init__(self, watch: Watch, feed: Feed) -> None:
        self._watch = watch
        self._feed = feed
        self._told: Progress | None = None

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """For the length of the block."""
        telling = asyncio.create_task(self._keep_telling())
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.wait((telling,))
            if not telling.cancelled():
                telling.result()

    async def tell(self) -> None:
        """How it is now, unless that was told."""
        progress = self._watch.progress()
        if progress != self._told:
            await self._feed.put(_event("progress", progress.model_dump_json().encode()))
            self._told = progress

    async def _keep_telling(self) -> None:
        while True:
            await self._watch.changed.wait()
            await self.tell()
            await asyncio.sleep(_BETWEEN_SECONDS)


def _event(name: str, data: bytes) -> bytes:
    """data: JSON without line breaks."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
