"""Bodies on their way. They hold no place: what bounds them is the bytes that have really come, and time.

A silent connection holds nothing. When the arriving bodies together exceed their bytes, the one that began first is
cut off: an honest body takes milliseconds to seconds, so the oldest is the slowest.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial

from ..errors import Draining, OverloadError, QueueFull, RequestError
from .bodies import read_limited

__all__ = ("Arrivals",)

# Bodies that are whole and wait to be parsed, together: beyond, the others come more slowly. Parsing goes on whatever
# clients do, so nobody can make them wait long; those that come in a piece or two do not wait.
_MOST_WHOLE_BYTES, _SMALL_BYTES = 16 * 2**20, 64 * 2**10
# A body was cut off for want of memory: by then the ones that pressed on it have come or gone.
_RETRY_SECONDS = 1


@dataclass(eq=False)
class _Body:
    clock: asyncio.Timeout
    held: int = 0  # bytes so far
    cut: list[OverloadError] = field(default_factory=list)  # why it was cut off, if it was


class Arrivals:
    """Create it inside the event loop that serves. max_body_bytes: of one body; max_bytes: of all together."""

    def __init__(self, *, max_body_bytes: int, max_bytes: int, seconds: float) -> None:
        self._max_body_bytes = max_body_bytes
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._bodies: list[_Body] = []  # the oldest first
        self._held = 0
        self._whole = 0
        self._room = asyncio.Event()
        self._room.set()
        self.came = 0
        """Bytes of all bodies since the start."""

    async def read(self, stream: AsyncIterable[bytes], *, declared: str | None) -> bytes:
        """A whole body. Raises RequestError (too large, too slow), QueueFull (cut off) or Draining (after stop())."""
        body = _Body(clock=asyncio.timeout(self._seconds))
        self._bodies.append(body)
        try:
            async with body.clock:
                return await read_limited(
                    self._gently(stream, body),
                    declared=declared,
                    limit=self._max_body_bytes,
                    came=partial(self._came, body),
                )
        except TimeoutError:
            if body.cut:
                raise body.cut[0] from None
            raise RequestError("malformed_body", f"body: expected all of it within {self._seconds:g} s") from None
        finally:
            self._bodies.remove(body)
            self._release(body)

    @contextlib.contextmanager
    def parsing(self, size: int) -> Iterator[None]:
        """A whole body of so many bytes, from when it has come until it is parsed."""
        self._whole += size
        if self._whole > _MOST_WHOLE_BYTES:
            self._room.clear()
        try:
            yield
        finally:
            self._whole -= size
            if self._whole <= _MOST_WHOLE_BYTES:
                self._room.set()

    async def _gently(self, stream: AsyncIterable[bytes], body: _Body) -> AsyncIterator[bytes]:
        async for piece in stream:
            yield piece
            if body.held > _SMALL_BYTES:  # before the next is asked for: a piece may have 256 KiB
                await self._room.wait()

    def stop(self) -> None:
        """End every body that is still arriving: grace is over."""
        for body in self._bodies:
            self._cut(body, Draining("the service is shutting down and the body had not come; ask another replica"))

    def _came(self, body: _Body, size: int) -> None:
        body.held += size
        self._held += size
        self.came += size
        for oldest in self._bodies:
            if self._held <= self._max_bytes:
                return
            if not oldest.cut:
                detail = f"expected at most {self._max_bytes} bytes of arriving bodies, and this one is the slowest"
                self._cut(oldest, QueueFull(detail, _RETRY_SECONDS))

    def _cut(self, body: _Body, reason: OverloadError) -> None:
        body.cut.append(reason)
        self._release(body)
        body.clock.reschedule(asyncio.get_running_loop().time())

    def _release(self, body: _Body) -> None:
        self._held -= body.held
        body.held = 0
