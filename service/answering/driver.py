"""The loop between the state machine, which knows no clock, and the backend, which knows no statistics.

Cancelling drive() cancels the backend call under way. A deadline ends the loop with what has been proved so far. A
backend that fails, stalls or answers nonsense ends it with BackendUnavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...models.ranges import cut
from .. import tracing
from ..backends.base import AheadDraw, Backend, DrawsAhead, check_votes
from ..core import Certifier, Counter, Query, Result
from ..core.results import Purpose
from ..errors import BackendUnavailable, CertifyError, DeadlineExceeded
from .ahead import Ahead, Drawn, Piece, sharing
from .pace import Pace, pace_of
from .timeouts import Limit

if TYPE_CHECKING:
    from ..settings import Settings

__all__ = ("CallLimits", "Run", "Turn", "Watcher", "at_once", "drive", "guard")

T = TypeVar("T")
# watch(certifier, drawn): votes of all draws, (levels, K), which goes on growing.
Watcher = Callable[[Certifier | Counter, NDArray[np.int64]], None]
# turn(samples) is held around a call that draws so many.
Turn = Callable[[int], AbstractAsyncContextManager[None]]


def at_once(samples: int) -> AbstractAsyncContextManager[None]:
    """A turn without waiting, for a caller that is alone with its backend."""
    return contextlib.nullcontext()


# A call may take so many times what calls of its size took lately: as when other requests come to share the machine.
SLOWER = 4.0


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """How much one backend call may be asked for, and how long it may take at least before it counts as stalled."""

    samples: int
    seconds: float | None  # None: as long as it takes

    @classmethod
    def of(cls, settings: Settings, *, offline: bool = False) -> CallLimits:
        """offline: nobody waits for a place, and a busy machine is no fault: only a limit that was set counts."""
        patient = offline and "call_seconds" not in settings.model_fields_set
        return cls(samples=settings.call_samples, seconds=None if patient else settings.call_seconds)

    def allowed(self, backend: Backend, samples: int) -> float | None:
        """Seconds for a call of so many samples: more where calls of that size took long lately."""
        return self.allowed_at(pace_of(backend), samples)

    def allowed_at(self, pace: Pace, samples: int) -> float | None:
        """The same, of a backend whose pace is known."""
        return None if self.seconds is None else max(self.seconds, SLOWER * pace.seconds(samples))


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of one request. `result` is sound whether or not the deadline cut it short."""

    result: Result
    timed_out: bool
    uncertified_class: int
    sampling_seconds: float
    # Of each sigma: the most voted class's share of all draws, pilots included; None where nothing was drawn. A metric
    # shows it; no bound rests on it.
    leading: tuple[float | None, ...]
    ahead: Drawn
    certifier: Certifier | Counter  # as it ended
    # (level, purpose) -> votes of each chunk, int64 (chunks, K), where they were asked for. The last may be of a look
    # that the deadline cut short.
    chunks: Mapping[tuple[int, Purpose], NDArray[np.int64]] | None = None


async def drive(
    backend: Backend,
    certifier: Certifier | Counter,
    image: NDArray[np.float32],
    *,
    sigmas: tuple[float, ...],
    seed_of: Callable[[str, float], int],
    limits: CallLimits,
    deadline: float | None,
    turn: Turn = at_once,
    by_chunk: bool = False,
    watch: Watcher | None = None,
) -> Run:
    """Run `certifier` to its end, or to `deadline` (in the event loop's time; None: no deadline).

    image: (C, H, W) float32 in [0, 1]. sigmas: the certifier's, ascending. seed_of(purpose, sigma): a stream's seed.
    turn(samples): held around each call of the backend; waiting for it counts against the deadline. by_chunk: ask for
    the votes of each chunk, and keep them (Run.chunks). watch: called after each look.
    Raises DeadlineExceeded when no look was complete by the deadline, BackendUnavailable when the backend failed.
    """
    call = _Calls(backend, certifier, image, sigmas=sigmas, seed_of=seed_of, limits=limits, turn=turn)
    call.chunks = {} if by_chunk else None
    uncertified_class: int | None = None
    timed_out = False
    drawn = np.zeros((len(sigmas), len(backend.info().class_names)), dtype=np.int64)
    try:
        with sharing(backend), contextlib.closing(call.ahead), contextlib.closing(call.limit):
            async with asyncio.timeout_at(deadline):
                query = certifier.next()
                call.begin(query)
                async with turn(0):
                    # One image costs what the smallest call does.
                    seconds = limits.allowed(backend, backend.info().chunk)
                    uncertified_class = await _guarded(backend.classify(image), seconds, call.limit)
                while query is not None:
                    votes = await call.look(query)
                    certifier.observe(query, votes.tolist())
                    drawn[query.level] += votes
                    if watch is not None:
                        watch(certifier, drawn)
                    query = certifier.next()
    except TimeoutError:
        timed_out = True
    result = certifier.result()
    if uncertified_class is None or (timed_out and not result.has_data):
        raise DeadlineExceeded("deadline_ms: the deadline came before any look was complete, so nothing can be said")
    return Run(
        result=result,
        timed_out=timed_out,
        uncertified_class=uncertified_class,
        sampling_seconds=call.seconds,
        leading=tuple(max(votes) / sum(votes) if any(votes) else None for votes in drawn.tolist()),
        ahead=call.ahead.drawn,
        certifier=certifier,
        chunks=None if call.chunks is None else {stream: np.concatenate(rows) for stream, rows in call.chunks.items()},
    )


async def guard(call: Awaitable[T], seconds: float | None) -> T:
    """Await one backend call. A failure of any kind, or more than `seconds` (None: no limit) -> BackendUnavailable."""
    with contextlib.closing(Limit()) as limit:
        return await _guarded(call, seconds, limit)


async def _guarded(call: Awaitable[T], seconds: float | None, limit: Limit) -> T:
    # An outer timeout cancels us and arrives here as CancelledError, so TimeoutError is this call's own.
    try:
        with limit.within(seconds):
            return await call
    except TimeoutError as exc:
        within = "in its own time" if seconds is None else f"within {seconds:g} seconds"
        raise BackendUnavailable(f"the backend did not answer {within}") from exc
    except CertifyError:
        raise
    except Exception as exc:
        raise BackendUnavailable(f"the backend failed: {type(exc).__name__}") from exc


class _Calls:
    """How one request's votes are asked for, and how long the backend took for them."""

    def __init__(
        self,
        backend: Backend,
        certifier: Certifier | Counter,
        image: NDArray[np.float32],
        *,
        sigmas: tuple[float, ...],
        seed_of: Callable[[str, float], int],
        limits: CallLimits,
        turn: Turn,
    ) -> None:
        self._backend = backend
        self._certifier = certifier
        self._image = image
        self._sigmas = sigmas
        self._seed_of = seed_of
        self._seeds: dict[tuple[str, float], int] = {}  # a stream is asked for again at each of its looks
        self._limits = limits
        self._turn = turn
        self._pace: Pace = pace_of(backend)
        self._info = backend.info()
        chunk = self._info.chunk
        self._step = max(chunk, limits.samples // chunk * chunk)
        self.ahead = Ahead(backend, self._draw_ahead)
        self.limit = Limit()
        self.seconds = 0.0
        self.chunks: dict[tuple[int, Purpose], list[NDArray[np.int64]]] | None = None

    def begin(self, query: Query | None) -> None:
        """What is asked first needs no answer before it: hands that idle until then begin with it."""
        if query is not None and self.chunks is None:
            self.ahead.begin(lambda: [query], self._info.grain)

    def look(self, query: Query) -> Awaitable[NDArray[np.int64]]:
        """One look's votes, in a span of its own."""
        # Here and below no coroutine that only awaits another: they add up, a dozen for each of twenty calls.
        return self._traced(query) if tracing.is_on() else self._votes(query)

    async def _traced(self, query: Query) -> NDArray[np.int64]:
        sigma = self._sigmas[query.level]
        with tracing.span("look"):
            tracing.annotate(sigma=sigma, purpose=query.purpose, first=query.first, count=query.count)
            votes = await self._votes(query)
            tracing.annotate(votes=votes.tolist())
        return votes

    def _votes(self, query: Query) -> Awaitable[NDArray[np.int64]]:
        """In calls of at most limits.samples: a stream is the same however it is cut at chunks."""
        whole = query.first % self._step + query.count <= self._step
        return self._call(query) if whole else self._in_pieces(query)

    async def _in_pieces(self, query: Query) -> NDArray[np.int64]:
        total = np.zeros(len(self._info.class_names), dtype=np.int64)
        for low, high in cut(query.first, query.count, self._step):
            total += await self._call(replace(query, first=low, count=high - low))
        return total

    async def _call(self, query: Query) -> NDArray[np.int64]:
        """One turn's votes; what was drawn ahead of it is there, or nearly."""
        self._seed(query.purpose, self._sigmas[query.level])  # here a fault of ours does not count as the backend's
        async with self._turn(query.count):
            began = time.monotonic()
            try:
                allowed = self._limits.allowed_at(self._pace, query.count)
                votes = await _guarded(self._drawn(query, self.ahead.take(query)), allowed, self.limit)
            finally:
                took = time.monotonic() - began
                self.seconds += took
            self._pace.took(query.count, took)
        check_votes(votes, self._info, query.count)
        return votes

    def _drawn(self, query: Query, ready: list[Piece]) -> Awaitable[NDArray[np.int64]]:
        """`ready`: pieces that `query` begins with."""
        if self.chunks is not None:
            return self._by_chunk(query, self.chunks)
        if ready:
            return self._with_ready(query, ready)
        self._begin_ahead()
        return self._backend.count_votes(self._image, **self._stream(query, query.first, query.count))

    async def _with_ready(self, query: Query, ready: list[Piece]) -> NDArray[np.int64]:
        first = ready[-1].end
        missing = query.first + query.count - first
        total = np.zeros(len(self._info.class_names), dtype=np.int64)

        async def add(votes: Awaitable[NDArray[np.int64]]) -> None:
            np.add(total, await votes, out=total)

        try:
            async with asyncio.TaskGroup() as group:
                for piece in ready:
                    group.create_task(add(piece.draw.votes()))
                if missing:
                    rest = self._backend.count_votes(self._image, **self._stream(query, first, missing))
                    group.create_task(add(rest))
                self._begin_ahead()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return total

    async def _by_chunk(
        self, query: Query, kept: dict[tuple[int, Purpose], list[NDArray[np.int64]]]
    ) -> NDArray[np.int64]:
        """Nothing is drawn ahead: that would come without its chunks."""
        stream = self._stream(query, query.first, query.count)
        if self._info.whole(stream["sigma"]) is None:
            rows = await self._backend.chunk_votes(self._image, **stream)
        else:  # every sample is counted, and none is drawn: one row
            rows = (await self._backend.count_votes(self._image, **stream))[None]
        kept.setdefault((query.level, query.purpose), []).append(rows)
        total: NDArray[np.int64] = rows.sum(axis=0)
        return total

    def _begin_ahead(self) -> None:
        """Once what is waited for is in the backend's queue, what may follow it: never before it."""
        if self.ahead.possible:
            asyncio.get_running_loop().call_soon(self.ahead.begin, self._certifier.outlook, self._info.grain)

    def _draw_ahead(self, backend: DrawsAhead, query: Query) -> AheadDraw:
        return backend.draw_ahead(self._image, **self._stream(query, query.first, query.count))

    def _stream(self, query: Query, first: int, count: int) -> _Range:
        sigma = self._sigmas[query.level]
        return {"sigma": sigma, "seed": self._seed(query.purpose, sigma), "first": first, "count": count}

    def _seed(self, purpose: Purpose, sigma: float) -> int:
        if (purpose, sigma) not in self._seeds:
            self._seeds[purpose, sigma] = self._seed_of(purpose, sigma)
        return self._seeds[purpose, sigma]


class _Range(TypedDict):
    sigma: float
    seed: int
    first: int
    count: int
