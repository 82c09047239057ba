"""Answers that come piece by piece. The work is a task; what it has said waits in a short queue until it is sent.

A slow reader fills the queue, and work waits until there is room: what puts pieces must hold no place meanwhile. Where
nothing has been said for a while, something without meaning is sent: proxies cut connections that are silent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .asking import unless_gone
from .context import Gateway, gateway_of

__all__ = ("SILENT_SECONDS", "Feed", "Form", "stream")

logger = logging.getLogger(__name__)

# A quarter of what nginx, HAProxy and the clouds' balancers wait for (50 to 60 s): one that is late does no harm.
SILENT_SECONDS = 15.0
# Pieces that wait to be sent: enough that work goes on while one is written.
_MOST_WAITING = 8


class Feed:
    """What a task has said and a response has not sent. Use it inside one event loop."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self._pieces: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._over = False

    def begin(self) -> None:
        """The response may begin: what fails from now on is a piece of it."""
        self.begun.set()

    async def put(self, piece: bytes) -> None:
        """Wait until there is room, and say it."""
        while len(self._pieces) >= _MOST_WAITING:
            self._room.clear()
            await self._room.wait()
        self._pieces.append(piece)
        self._news.set()

    def end(self) -> None:
        """Nothing more will be said."""
        self._over = True
        self._news.set()

    async def next(self) -> bytes | None:
        """The next piece; None after the last one."""
        while not self._pieces:
            if self._over:
                return None
            self._news.clear()
            await self._news.wait()
        self._room.set()
        return self._pieces.popleft()


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a stream is written. last: what still follows when the work fails, of its error."""

    media_type: str
    silence: bytes
    last: Callable[[Exception], Iterable[bytes]]


async def stream(request: Request, work: Callable[[Feed], Coroutine[Any, Any, None]], form: Form) -> Response:
    """Begin `work`, and return what answers the pieces that it puts. Raises what it raises before feed.begin()."""
    gateway, feed = gateway_of(request), Feed()
    task = asyncio.create_task(unless_gone(request, gateway, work(feed)))
    task.add_done_callback(lambda _: feed.end())
    begun = asyncio.create_task(feed.begun.wait())
    try:
        await asyncio.wait((task, begun), return_when=asyncio.FIRST_COMPLETED)
        if feed.begun.is_set():
            return _Stream(request, gateway, task, feed, form)
        task.result()
        raise AssertionError("work ended before it began")
    except BaseException:
        await _stop(task)
        raise
    finally:
        begun.cancel()
        del task, begun  # an error's traceback has this frame, and the task has the error


class _Stream(Response):
    def __init__(self, request: Request, gateway: Gateway, task: asyncio.Task[None], feed: Feed, form: Form) -> None:
        # Nothing between may keep it, or gather it to compress it; nginx gathers whatever it is not told of.
        headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
        super().__init__(headers=headers, media_type=form.media_type)
        del self.headers["content-length"]
        self._request = request
        self._gateway = gateway
        self._task = task
        self._feed = feed
        self._form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def say(piece: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(self._gateway.settings.body_seconds):  # a reader may take as long as a sender
                await send({"type": "http.response.body", "body": piece, "more_body": more})

        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while (piece := await self._next()) is not None:
                await say(piece)
            if (error := self._task.exception()) is not None:
                if isinstance(error, ClientDisconnect) or not isinstance(error, Exception):
                    raise error
                for piece in self._form.last(error):
                    await say(piece)
            await say(b"", more=False)
        except (ClientDisconnect, TimeoutError):
            self._left()
        finally:
            await _stop(self._task)

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                return await self._feed.next()
        except TimeoutError:
            return self._form.silence

    def _left(self) -> None:
        """Whoever does not read has left too: the connection may be closed for another's."""
        self._gateway.metrics.disconnects.inc()
        self._request.state.code = "client_left"
        if (held_back := getattr(self._request.state, "held_back", None)) is not None:
            held_back.now = True


async def _stop(task: asyncio.Task[None]) -> None:
    """End it, and wait until what it held is given back."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()  # seen
