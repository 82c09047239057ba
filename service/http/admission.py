"""How many requests are in the house, and how many of them sample. Overload is answered before any work starts.

A request first comes in (at once, or QueueFull) and its body arrives, bounded by http/arrivals.py. With its whole body
it takes a place, decodes its image, and waits for a turn for each of its calls (http/turns.py). A client that sends
slowly holds neither place nor turn.

Large requests may take only a part of the places, so that small ones find some beside them; so may the images of a
batch, which wait for theirs. A full house still lets in a client that holds less than half of an even share, as turns
do: others must not be locked out by one that has many.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial

from ..errors import Draining, QueueFull
from .keys import ANYBODY, Client
from .metrics import Metrics
from .turns import QUANTUM, Requester, Turns, below_share

__all__ = ("PROMPT_MISTAKES", "PROMPT_REFUSALS", "Admission", "Place")

# Weight of the newest request in the moving average of service times: about the last ten count.
_NEWEST = 0.2
# Refusals in a second that are sent at once: those of honest clients. In a flood each is held back for the least
# Retry-After (http/refusals.py). Of mistakes more: whoever tries out an API, or a whole table of images, makes many.
PROMPT_REFUSALS, PROMPT_MISTAKES = 10, 100
_HELD_BACK_SECONDS = 1.0
# Retry-After: never an instant retry, never longer than a client would wait.
_RETRY_SECONDS = (1, 300)


class Admission:
    """Bounded places and turns. Create it inside the event loop that serves. `clock` is monotonic, in seconds."""

    def __init__(
        self, *, running: int, queued: int, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._running_limit = running
        self._limit = running + queued
        # Of requests above QUANTUM samples, and of all when a batch wants another: a quarter of the house is left.
        self._large_limit = max(running, self._limit * 3 // 4)
        self._turns = Turns(running)
        self._places: Counter[str] = Counter()  # by client's lane, of those that hold any
        self._metrics = metrics
        self._clock = clock
        self._arriving = 0
        self._accepted = 0
        self._batches = 0
        self._large = 0
        self._left = asyncio.Event()  # set, and another one from then on, when a place is given back
        self._mean_seconds = 1.0
        self._draining = False
        self._refusals: deque[float] = deque(maxlen=PROMPT_MISTAKES)  # when the latest were sent
        # Read at each scrape: a call changes them twice, and setting a gauge takes as long as giving a turn.
        metrics.arriving.set_function(lambda: self._arriving)
        metrics.in_flight.set_function(lambda: self._turns.held)
        metrics.queue_depth.set_function(lambda: self._accepted - self._turns.held)
        self.aborted = asyncio.Event()
        """Set when grace is over: whoever still works must stop and answer Draining."""

    @property
    def idle(self) -> bool:
        """No request holds a place, and none is on its way."""
        return self._accepted == self._arriving == self._batches == 0

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
    def arrival(self, client: Client = ANYBODY) -> Iterator[None]:
        """Count a request while its body arrives. Raises Draining or QueueFull at once, before a byte is read."""
        if self._draining:
            raise Draining("the service is shutting down; send the request to another replica")
        self._check_free(client)
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1

    @contextlib.contextmanager
    def place(self, client: Client = ANYBODY) -> Iterator[Place]:
        """Hold a place for the length of the block, for a request that came in before draining. Raises QueueFull."""
        self.check(client)
        self._places[client.lane] += 1
        self._accepted += 1
        try:
            with self._turns.request(client.lane) as requester:
                waited = self._metrics.queue_wait_seconds.observe
                place = Place(client, requester, self._clock, waited=waited)
                try:
                    yield place
                finally:
                    if place.began is not None:
                        self._mean_seconds += _NEWEST * (self._clock() - place.began - self._mean_seconds)
        finally:
            self._places[client.lane] -= 1
            if not self._places[client.lane]:
                del self._places[client.lane]
            self._accepted -= 1
            self._left.set()
            self._left = asyncio.Event()

    def check(self, client: Client) -> None:
        """Raise QueueFull where place() would."""
        self._check_free(client)
        if client.places is not None and self._places[client.lane] >= client.places:
            raise QueueFull(
                f"expected at most {client.places} requests of {client.name} at once, and there are as many",
                self._retry_after(),
            )

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """A request of many images, each with a place of its own, and at times without any."""
        self._batches += 1
        try:
            yield
        finally:
            self._batches -= 1

    @contextlib.asynccontextmanager
    async def next_place(self, client: Client, samples: int) -> AsyncIterator[Place]:
        """As place() and size(), for an image of a batch: it waits until there is one."""
        while not self._has_room(client, samples):
            await self._left.wait()
        with self.place(client) as place, self.size(place, samples):
            yield place

    @contextlib.contextmanager
    def size(self, place: Place, samples: int) -> Iterator[None]:
        """Say how many samples a request may take, before its first turn, for the length of the block.

        Raises QueueFull for one large request too many.
        """
        large = samples > QUANTUM
        if large and not self._has_large(place.client):
            raise QueueFull(
                f"expected at most {self._large_limit} requests of more than {QUANTUM} samples at once, and there are "
                "as many",
                self._retry_after(),
            )
        self._large += large
        if large:
            place.enlarge()
        try:
            yield
        finally:
            self._large -= large

    async def hold_back(self, prompt: int) -> None:
        """Wait before a refusal is sent, if it is one of a flood: if as many as `prompt` were in the last second."""
        now = self._clock()
        flood = len(self._refusals) >= prompt and now - self._refusals[-prompt] < 1.0
        self._refusals.append(now)
        if flood:
            await asyncio.sleep(_HELD_BACK_SECONDS)

    def _check_free(self, client: Client) -> None:
        if self._accepted >= self._limit and not below_share(self._places, client.lane, self._limit):
            raise QueueFull(
                f"expected at most {self._limit} requests at once ({self._running_limit} of them sampling), "
                "and there are as many",
                self._retry_after(),
            )

    def _has_large(self, client: Client) -> bool:
        return self._large < self._large_limit or below_share(self._places, client.lane, self._large_limit)

    def _has_room(self, client: Client, samples: int) -> bool:
        """Whether a place can be had, and a quarter of them is left to others."""
        own = self._places[client.lane]
        if client.places is not None and own >= client.places:
            return False
        if samples > QUANTUM and not self._has_large(client):
            return False
        return self._accepted < self._large_limit or below_share(self._places, client.lane, self._limit)

    def _retry_after(self) -> int:
        """When the next turn is likely to be free, in whole seconds."""
        least, most = _RETRY_SECONDS
        return min(most, max(least, math.ceil(self._mean_seconds / self._running_limit)))


class Place:
    """One request's place. `drawn`: samples of the calls that it has begun."""

    def __init__(
        self, client: Client, requester: Requester, clock: Callable[[], float], *, waited: Callable[[float], None]
    ) -> None:
        self.client = client
        self._requester = requester
        self._clock = clock
        self._waited = waited
        self.began: float | None = None  # its first turn

    @property
    def drawn(self) -> int:
        return self._requester.drawn

    def enlarge(self) -> None:
        """Its turns are those of large requests (http/turns.py)."""
        self._requester.enlarge()

    def turn(self, samples: int) -> AbstractAsyncContextManager[None]:
        """Wait for a turn to draw so many samples, and hold it for the length of the block."""
        return self._requester.turn(samples, partial(self._begin, self._clock()) if self.began is None else None)

    def _begin(self, asked: float) -> None:
        self.began = self._clock()
        self._waited(self.began - asked)
