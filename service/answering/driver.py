"""The loop between the state machine, which knows no clock, and the backend, which knows no statistics.

Cancelling drive() cancels the backend call under way. A deadline ends the loop with what has been proved so far. A
backend that fails, stalls or answers nonsense ends it with BackendUnavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...models.ranges import cut
from ..backends.base import Backend, check_votes
from ..core import Certifier, Query, Result
from ..errors import BackendUnavailable, CertifyError, DeadlineExceeded
from ..tracing import span
from .pace import pace_of

if TYPE_CHECKING:
    from ..settings import Settings

__all__ = ("CallLimits", "Run", "Turn", "at_once", "drive", "guard")

T = TypeVar("T")
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
        return None if self.seconds is None else max(self.seconds, SLOWER * pace_of(backend).seconds(samples))


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


async def drive(
    backend: Backend,
    certifier: Certifier,
    image: NDArray[np.float32],
    *,
    sigmas: tuple[float, ...],
    seed_of: Callable[[str, float], int],
    limits: CallLimits,
    deadline: float | None,
    turn: Turn = at_once,
) -> Run:
    """Run `certifier` to its end, or to `deadline` (in the event loop's time; None: no deadline).

    image: (C, H, W) float32 in [0, 1]. sigmas: the certifier's, ascending. seed_of(purpose, sigma): a stream's seed.
    turn(samples): held around each call of the backend; waiting for it counts against the deadline.
    Raises DeadlineExceeded when no look was complete by the deadline, BackendUnavailable when the backend failed.
    """
    call = _Calls(backend=backend, image=image, seed_of=seed_of, limits=limits, turn=turn)
    uncertified_class: int | None = None
    timed_out = False
    drawn = np.zeros((len(sigmas), len(backend.info().class_names)), dtype=np.int64)
    try:
        async with asyncio.timeout_at(deadline):
            async with turn(0):
                # One image costs what the smallest call does.
                seconds = limits.allowed(backend, backend.info().chunk)
                uncertified_class = await guard(backend.classify(image), seconds)
            while (query := certifier.next()) is not None:
                votes = await _look(call, query, sigmas[query.level])
                certifier.observe(query, votes.tolist())
                drawn[query.level] += votes
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
        leading=tuple(float(votes.max() / votes.sum()) if votes.any() else None for votes in drawn),
    )


async def guard(call: Awaitable[T], seconds: float | None) -> T:
    """Await one backend call. A failure of any kind, or more than `seconds` (None: no limit) -> BackendUnavailable."""
    try:
        # An outer timeout cancels us and arrives here as CancelledError, so TimeoutError is this call's own.
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError as exc:
        within = "in its own time" if seconds is None else f"within {seconds:g} seconds"
        raise BackendUnavailable(f"the backend did not answer {within}") from exc
    except CertifyError:
        raise
    except Exception as exc:
        raise BackendUnavailable(f"the backend failed: {type(exc).__name__}") from exc


@dataclass(kw_only=True)
class _Calls:
    """How one request's votes are asked for, and how long the backend took for them."""

    backend: Backend
    image: NDArray[np.float32]
    seed_of: Callable[[str, float], int]
    limits: CallLimits
    turn: Turn
    seconds: float = 0.0


async def _look(calls: _Calls, query: Query, sigma: float) -> NDArray[np.int64]:
    """_votes, in a span of its own."""
    facts = {"sigma": sigma, "purpose": query.purpose, "first": query.first, "count": query.count}
    with span("look", facts) as current:
        votes = await _votes(calls, query, sigma)
        current.set_attribute("votes", votes.tolist())
    return votes


async def _votes(calls: _Calls, query: Query, sigma: float) -> NDArray[np.int64]:
    """One look's votes, in calls of at most limits.samples: a stream is the same however it is cut at chunks."""
    clock = asyncio.get_running_loop().time
    seed, info = calls.seed_of(query.purpose, sigma), calls.backend.info()
    step = max(info.chunk, calls.limits.samples // info.chunk * info.chunk)
    total = np.zeros(len(info.class_names), dtype=np.int64)
    for low, high in cut(query.first, query.count, step):
        count = high - low
        async with calls.turn(count):
            began = clock()
            call = calls.backend.count_votes(calls.image, sigma=sigma, seed=seed, first=low, count=count)
            try:
                votes = await guard(call, calls.limits.allowed(calls.backend, count))
            finally:
                calls.seconds += clock() - began
            pace_of(calls.backend).took(count, clock() - began)
        check_votes(votes, info, count)
        total += votes
    return total
