"""What still comes of a request once it has been answered: a body that was refused by its head, or that is no HTTP.

A client that sends all before it reads (Python's urllib) loses the answer when its connection is closed meanwhile: the
kernel resets it. So the rest is read and thrown away, as nginx does: so much and so long at most, a few pieces in each
round of the loop, since nobody needs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .starts import Starts

__all__ = ("ClosedGently", "Rest", "RestLimits")


@dataclass(frozen=True, kw_only=True)
class RestLimits:
    """Of one request's rest. turns: whose is read next."""

    most_bytes: int
    seconds: float
    turns: Starts = field(default_factory=Starts)


class Rest:
    """One connection's. pause and resume: its reading. end: closes it, whatever is going on."""

    def __init__(
        self,
        limits: RestLimits,
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
        end: Callable[[], None],
    ) -> None:
        self._limits = limits
        self._pause = pause
        self._resume = resume
        self._end = end
        self._came = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def coming(self) -> bool:
        return self._timer is not None

    def begin(self) -> None:
        """The answer has been sent, and the request was not whole."""
        if self._timer is None:
            self._came = 0
            self.end_in(self._limits.seconds)

    def end_in(self, seconds: float) -> None:
        self.over()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end)

    def over(self) -> None:
        """All of it has come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def came(self, size: int, lane: str) -> None:
        """A piece, which has been thrown away. lane: whom turns go round by."""
        self._came += size
        if self._came > self._limits.most_bytes:
            self._end()
            return
        self._pause()
        self._limits.turns.ask(self, lane, self._resume)

    def forget(self, lane: str) -> None:
        """The connection is gone."""
        self.over()
        self._limits.turns.forget(self, lane)


class ClosedGently(asyncio.Transport):
    """A connection's transport as uvicorn is to see it: `close` decides what closing is."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        super().__init__()
        self._transport = transport
        self._close = close
        self._is_closing = False

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._close()

    def is_closing(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_closing:
            self._transport.write(data)

    def abort(self) -> None:
        self._is_closing = True
        self._transport.abort()

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
