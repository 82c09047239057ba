"""Whose call to the backend is next: turns go round by client, and within a client small requests come first.

A turn is one call of at most CERTIFY_CALL_SAMPLES, not a whole request, so nobody waits for a long request to end.

Between clients: each in its turn. A client alone may use every turn; beside others it holds at most half of an even
share, so that a newcomer finds the backend half idle, and at least one. A client that holds none need not wait for
others to end theirs, until such newcomers hold as many calls again: addresses are cheap.
Within a client: a request that has drawn less than QUANTUM comes before those that have drawn more, of equals the one
that came first. Requests of the usual size are so answered first come, first served, and a hundred large ones wait
while a small one passes (a feedback queue; Kleinrock 1976, section 4.7).

Requests that ask for more than QUANTUM go in a lane of their own, as if another client had sent them: somebody's small
request is not to wait for large ones, and without keys a whole network is one client. That lane holds at most a quarter
of the turns even when it is alone. Each of its calls keeps a whole device busy, and a small request that comes is one
call beside theirs: it takes as many times as long as there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

__all__ = ("Requester", "Turns", "below_share")

# A request's default number of samples: whoever asks for no more is never set back.
QUANTUM = 10_000


def below_share(held: Mapping[str, int], lane: str, limit: int) -> bool:
    """Whether a client may come in though `limit` are in: one that holds less than half of an even share.

    held: lane -> how many it has. Half as many more come in so at most, however many clients there are.
    """
    others = sum(1 for name, count in held.items() if count and name != lane)
    share = max(1, limit // (2 * (others + 1)))
    return others > 0 and held.get(lane, 0) < share and sum(held.values()) < limit * 3 // 2


@dataclass(eq=False)
class _Client:
    """One client with requests in the house."""

    large: bool = False
    requests: int = 0
    held: int = 0
    waiting: dict[Requester, asyncio.Future[None]] = field(default_factory=dict)

    def first(self) -> Requester:
        return min(self.waiting, key=lambda requester: (requester.drawn // QUANTUM, requester.arrival))


class Turns:
    """`limit` calls at once, and up to `newcomers` more (None: as many again) for clients that hold none.

    Create it in the loop that serves.
    """

    def __init__(self, limit: int, *, newcomers: int | None = None) -> None:
        self._limit = limit
        self._most = limit + (limit if newcomers is None else newcomers)
        self._clients: OrderedDict[str, _Client] = OrderedDict()  # in the order in which their turns come
        self._arrivals = itertools.count()
        self._held = self._waiting = 0  # of all clients

    @property
    def held(self) -> int:
        """Calls under way."""
        return self._held

    @contextlib.contextmanager
    def request(self, client: str) -> Iterator[Requester]:
        """A request of `client`, for as long as it is in the house."""
        entry = self._clients.setdefault(client, _Client())
        entry.requests += 1
        try:
            requester = Requester(self, client, next(self._arrivals))
            yield requester
        finally:
            self._leave(requester.client)

    def enlarge(self, requester: Requester) -> None:
        """Put a request that holds no turn and waits for none into its client's lane of large ones."""
        before, requester.client = requester.client, f"{requester.client} large"  # no client has a name with a space
        self._clients.setdefault(requester.client, _Client(large=True)).requests += 1
        self._leave(before)

    def _leave(self, lane: str) -> None:
        entry = self._clients[lane]
        entry.requests -= 1
        if not entry.requests:
            del self._clients[lane]
        self._go_on()

    def take_now(self, requester: Requester) -> bool:
        """Whether it is this requester's turn at once, with nobody to go before it; give() must follow."""
        client = self._clients[requester.client]
        if self._waiting or not self._may(client, self._share()):
            return False
        self._clients.move_to_end(requester.client)
        self._hold(client, 1)
        return True

    async def take(self, requester: Requester) -> None:
        """Return when it is this requester's turn; give() must follow."""
        turn = asyncio.get_running_loop().create_future()
        self._clients[requester.client].waiting[requester] = turn
        self._waiting += 1
        self._go_on()
        try:
            await turn
        except asyncio.CancelledError:
            if self._clients[requester.client].waiting.pop(requester, None) is not None:
                self._waiting -= 1
            elif not turn.cancelled():
                self.give(requester)  # it was given at the very moment
            raise

    def give(self, requester: Requester) -> None:
        """The turn is over."""
        self._hold(self._clients[requester.client], -1)
        self._go_on()

    def _go_on(self) -> None:
        """Give every turn that may be given now."""
        while self._waiting and (name := self._next()) is not None:
            client = self._clients[name]
            self._clients.move_to_end(name)
            turn = client.waiting.pop(client.first())
            self._waiting -= 1
            if not turn.done():  # else its task was cancelled, and has not run yet
                self._hold(client, 1)
                turn.set_result(None)

    def _next(self) -> str | None:
        share = self._share()
        for name, client in self._clients.items():
            if client.waiting and self._may(client, share):
                return name
        return None

    def _share(self) -> int:
        return self._limit if len(self._clients) < 2 else max(1, self._limit // (2 * len(self._clients)))

    def _may(self, client: _Client, share: int) -> bool:
        """Whether it may hold one more."""
        most = min(share, max(1, self._limit // 4)) if client.large else share
        return client.held < most and self._held < (self._limit if client.held else self._most)

    def _hold(self, client: _Client, more: int) -> None:
        client.held += more
        self._held += more


class Requester:
    """One request. It asks for one turn at a time."""

    def __init__(self, turns: Turns, client: str, arrival: int) -> None:
        self._turns = turns
        self.client = client
        self.arrival = arrival
        self.drawn = 0

    def enlarge(self) -> None:
        """Go into the client's lane of large requests, before the first turn."""
        self._turns.enlarge(self)

    def turn(self, samples: int, began: Callable[[], None] | None = None) -> AbstractAsyncContextManager[None]:
        """Wait for a turn to draw so many samples, and hold it for the length of the block.

        began: called when it has come.
        """
        return _Turn(self._turns, self, samples, began)


class _Turn:
    """By hand: a request has some twenty, and a generator's context manager costs several times as much."""

    __slots__ = ("_began", "_requester", "_samples", "_turns")

    def __init__(self, turns: Turns, requester: Requester, samples: int, began: Callable[[], None] | None) -> None:
        self._turns = turns
        self._requester = requester
        self._samples = samples
        self._began = began

    async def __aenter__(self) -> None:
        if not self._turns.take_now(self._requester):  # nobody to go before: neither future nor coroutine is needed
            await self._turns.take(self._requester)
        if self._began is not None:
            self._began()

    async def __aexit__(self, *failure: object) -> None:
        self._requester.drawn += self._samples
        self._turns.give(self._requester)
