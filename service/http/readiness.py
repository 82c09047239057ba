"""Whether the backend has answered a real sample recently: what /readyz says.

A request's votes count as an answer, so a busy service is not probed. When the last answer is too old, or the backend
has just failed, the next question makes one chunk be sampled; questions asked meanwhile wait for that same probe.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np

from ..answering.driver import guard
from ..backends.base import Backend
from ..errors import BackendUnavailable

__all__ = ("ANSWER_SECONDS", "Readiness")

# A busy laptop may take seconds for one chunk, and a dead replica is asked again a few times before it counts as dead.
_PROBE_SECONDS = 10.0
# Whoever asks must hear in time, whatever the backend does; the probe goes on and the next question finds its answer.
# Two seconds: a client's patience for a health check. The chart gives its probes a second more.
ANSWER_SECONDS = 2.0


class Readiness:
    """`fresh_seconds` is how long one answer counts, `answer_seconds` how long check() may take, `clock` monotonic.

    `served` raises BackendUnavailable when nothing is served; None: whatever `backend` says.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        fresh_seconds: float,
        served: Callable[[], object] | None = None,
        answer_seconds: float = ANSWER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._served = served or backend.info
        self._fresh_seconds = fresh_seconds
        self._answer_seconds = answer_seconds
        self._clock = clock
        self._answered: float | None = None
        # As far as anybody has asked.
        self.answering = True
        self._probe: asyncio.Task[None] | None = None

    def opened(self) -> None:
        """The backend has just been opened, which ended with a real forward; the next question asks it all the same."""
        self._answered = None
        self.answering = True

    def answered(self) -> None:
        """The backend has just answered a request."""
        self._answered = self._clock()
        self.answering = True

    def failed(self) -> None:
        """The backend has just failed a request: believe nothing until it answers again."""
        self._answered = None
        self.answering = False

    async def check(self) -> None:
        """Return when the backend is known to answer, raise BackendUnavailable when it does not, or not in time."""
        self._served()
        if self._answered is not None and self._clock() - self._answered <= self._fresh_seconds:
            return
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._sample(), name="readiness-probe")
            # Read its exception even when nobody waits any more, or asyncio complains about it.
            self._probe.add_done_callback(lambda probe: probe.cancelled() or probe.exception())
        # wait() leaves the probe alone when the time is over or the caller is cancelled: others may wait for it too.
        done, _ = await asyncio.wait([self._probe], timeout=self._answer_seconds)
        if not done:
            self.answering = False
            raise BackendUnavailable(f"the backend has not answered a sample within {self._answer_seconds:g} seconds")
        self.answering = self._probe.exception() is None
        self._probe.result()

    async def close(self) -> None:
        """Stop a probe that is under way."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)

    async def _sample(self) -> None:
        info = self._backend.info()
        grey = np.full(info.input_shape, 0.2, dtype=np.float32)
        call = self._backend.count_votes(grey, sigma=info.sigmas[0], seed=0, first=0, count=info.chunk)
        votes = await guard(call, _PROBE_SECONDS)
        if int(votes.sum()) != info.chunk:
            raise BackendUnavailable(f"the backend answered {int(votes.sum())} votes for {info.chunk} samples")
        self.answered()
