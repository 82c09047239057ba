"""Whether the backend has answered a real sample recently: what /readyz says.

A request's votes count as an answer, so a busy service is not probed. When the last answer is too old, or the backend
has just failed, the next question makes one chunk be sampled; questions asked meanwhile wait for that same probe.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np

from service.backends.base import Backend
from service.driver import guard
from service.errors import BackendUnavailable

__all__ = ("Readiness",)

# Kubernetes gives a probe one second unless told otherwise, but a busy laptop may take longer for one chunk: the probe
# goes on and the next question finds its answer.
_PROBE_SECONDS = 10.0


class Readiness:
    """`fresh_seconds` is how long one answer counts. `clock` is monotonic, in seconds."""

    def __init__(self, backend: Backend, *, fresh_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._fresh_seconds = fresh_seconds
        self._clock = clock
        self._answered: float | None = None
        self._probe: asyncio.Task[None] | None = None

    def answered(self) -> None:
        """The backend has just answered a request."""
        self._answered = self._clock()

    def failed(self) -> None:
        """The backend has just failed a request: believe nothing until it answers again."""
        self._answered = None

    async def check(self) -> None:
        """Return when the backend is known to answer, raise BackendUnavailable when it does not."""
        if self._answered is not None and self._clock() - self._answered <= self._fresh_seconds:
            return
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._sample(), name="readiness-probe")
            # Read its exception even when nobody waits any more, or asyncio complains about it.
            self._probe.add_done_callback(lambda probe: probe.cancelled() or probe.exception())
        # Shielded: a caller that gives up must not stop the probe for the others.
        await asyncio.shield(self._probe)

    async def close(self) -> None:
        """Stop a probe that is under way."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)

    async def _sample(self) -> None:
        info = self._backend.info()
        grey = np.full(info.input_shape, 0.5, dtype=np.float32)
        call = self._backend.count_votes(grey, sigma=info.sigmas[0], seed=0, first=0, count=info.chunk)
        votes = await guard(call, _PROBE_SECONDS)
        if int(votes.sum()) != info.chunk:
            raise BackendUnavailable(f"the backend answered {int(votes.sum())} votes for {info.chunk} samples")
        self.answered()
