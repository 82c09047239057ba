"""How many requests are in the house, and how many of them sample. Overload is answered before any work starts.

A request first comes in (at once, or QueueFull) and its body arrives, bounded by http/arrivals.py. With its whole body
it takes a place, decodes its image, and waits for its turn to sample. A client that sends slowly holds neither place
nor turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator

from ..errors import Draining, QueueFull
from .metrics import Metrics

__all__ = ("Admission",)

# Weight of the newest request in the moving average of service times: about the last ten count.
_NEWEST = 0.2
# Retry-After: never an instant retry, never longer than a client would wait.
_RETRY_SECONDS = (1, 300)


class Admission:
    """Bounded places and turns. Create it inside the event loop that serves. `clock` is monotonic, in seconds."""

    def __init__(
        self, *, running: int, queued: int, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._running_limit = running
        self._limit = running + queued
        self._turns = asyncio.Semaphore(running)  # first come, first served
        self._metrics = metrics
        self._clock = clock
        self._arriving = 0
        self._accepted = 0
        self._sampling = 0
        self._mean_seconds = 1.0
        self._draining = False
        self.aborted = asyncio.Event()
        """Set when grace is over: whoever still works must stop and answer Draining."""

    @property
    def idle(self) -> bool:
        """No request holds a place, and none is on its way."""
        return self._accepted == self._arriving == 0

    @property
    def draining(self) -> bool:
        return self._draining

    def drain(self) -> None:
        """Take nothing new from now on; what was accepted goes on."""
        self._draining = True

    def abort(self) -> None:
        """Stop what is still there."""
        self._draining = True
        self.aborted.set()

    @contextlib.contextmanager
    def arrival(self) -> Iterator[None]:
        """Count a request while its body arrives. Raises Draining or QueueFull at once, before a byte is read."""
        if self._draining:
            raise Draining("the service is shutting down; send the request to another replica")
        self._check_free()
        self._count(arriving=1)
        try:
            yield
        finally:
            self._count(arriving=-1)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for the length of the block, for a request that came in before draining. Raises QueueFull."""
        self._check_free()
        self._count(accepted=1)
        try:
            yield
        finally:
            self._count(accepted=-1)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait, in order, until a turn to sample is free and hold it for the length of the block."""
        began = self._clock()
        async with self._turns:
            started = self._clock()
            self._metrics.queue_wait_seconds.observe(started - began)
            self._count(sampling=1)
            try:
                yield
            finally:
                self._count(sampling=-1)
                self._mean_seconds += _NEWEST * (self._clock() - started - self._mean_seconds)

    def _check_free(self) -> None:
        if self._accepted >= self._limit:
            raise QueueFull(
                f"expected at most {self._limit} requests at once ({self._running_limit} of them sampling), "
                "and there are as many",
                self._retry_after(),
            )

    def _count(self, *, arriving: int = 0, accepted: int = 0, sampling: int = 0) -> None:
        self._arriving += arriving
        self._accepted += accepted
        self._sampling += sampling
        self._metrics.arriving.set(self._arriving)
        self._metrics.in_flight.set(self._sampling)
        self._metrics.queue_depth.set(self._accepted - self._sampling)

    def _retry_after(self) -> int:
        """When the next turn is likely to be free, in whole seconds."""
        least, most = _RETRY_SECONDS
        return min(most, max(least, math.ceil(self._mean_seconds / self._running_limit)))
