"""Fixed numbers of samples at each scale, for comparing policies: as the field does it, and unlike the service.

A pilot of N0 and an estimation of N samples at a scale; N0 = 100 as in Cohen et al. 2019 and in the paper, rounded up
to chunks. Streams are named as the service names them: one question has the same noise under every policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...models.ranges import cut
from ..answering.driver import CallLimits, guard
from ..answering.plans import Plan
from ..backends.base import Backend
from ..core import Cascade, PilotPlan, plan_from_pilot
from ..errors import BackendUnavailable
from .policies import Outcome, reference

__all__ = ("Drawn", "FixedSampler", "pilot_size")

SELECTION = 100


def pilot_size(chunk: int) -> int:
    return -(-SELECTION // chunk) * chunk


class Drawn(NamedTuple):
    """One image's votes at every scale, and what its pilot chose."""

    plain: int
    pilot: NDArray[np.int64]  # (K, C)
    votes: NDArray[np.int64]  # (K, chunks, C)
    plan: PilotPlan


@dataclass(frozen=True, kw_only=True)
class FixedSampler:
    """One image's streams. plan.samples is N, the estimation samples of each scale."""

    backend: Backend
    image: NDArray[np.float32]
    plan: Plan
    seed_of: Callable[[str, float], int]
    limits: CallLimits

    async def everything(self) -> Drawn:
        """All scales, whole, by chunk: what a file of votes keeps."""
        plain = await guard(self.backend.classify(self.image), self.limits.seconds)
        pilot = await self._all("pilot", pilot_size(self.plan.chunk))
        votes = await self._all("estimation", self.plan.samples)
        counts = pilot.sum(axis=1)
        chosen = plan_from_pilot(self.plan.cascade, counts.tolist(), self.plan.alpha, self.plan.samples)
        return Drawn(plain, counts, votes, chosen)

    async def reference(self) -> tuple[int, Outcome]:
        """(plain class, outcome) of the paper's protocol, which draws at a scale only once it visits it."""
        plain = await guard(self.backend.classify(self.image), self.limits.seconds)
        pilot: list[NDArray[np.int64]] = []
        counts: list[NDArray[np.int64]] = []  # finest first
        for level in reversed(range(len(self.plan.sigmas))):
            pilot.insert(0, (await self._level("pilot", level, pilot_size(self.plan.chunk))).sum(axis=0))
            counts.insert(0, (await self._level("estimation", level, self.plan.samples)).sum(axis=0))
            cascade = self.plan.cascade
            visited = Cascade.of(cascade.sigmas[level:], cascade.thresholds[level:], "threshold", cascade.noise[level:])
            outcome = reference(np.array(counts), np.array(pilot), visited, self.plan.alpha)
            if outcome.label is not None or outcome.undecided:
                break
        at = None if outcome.level is None else outcome.level + level
        return plain, Outcome(
            label=outcome.label, radius=outcome.radius, level=at, visited=outcome.visited, undecided=outcome.undecided
        )

    async def _all(self, purpose: str, samples: int) -> NDArray[np.int64]:
        """(K, chunks, C); the scales side by side, so that workers do not wait at the end of each."""
        try:
            async with asyncio.TaskGroup() as group:
                levels = [group.create_task(self._level(purpose, k, samples)) for k in range(len(self.plan.sigmas))]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return np.stack([level.result() for level in levels])

    async def _level(self, purpose: str, level: int, samples: int) -> NDArray[np.int64]:
        """(chunks, C), in calls of at most limits.samples."""
        sigma, chunk = self.plan.sigmas[level], self.plan.chunk
        seed = self.seed_of(purpose, sigma)
        step = max(chunk, self.limits.samples // chunk * chunk)
        parts = []
        for low, high in cut(0, samples, step):
            count = high - low
            call = self.backend.chunk_votes(self.image, sigma=sigma, seed=seed, first=low, count=count)
            votes = await guard(call, self.limits.seconds)
            if votes.shape != (count // chunk, self.plan.classes) or (votes < 0).any() or (votes.sum(1) != chunk).any():
                raise BackendUnavailable(f"the backend answered impossible votes: {votes.shape} for {count} samples")
            parts.append(votes)
        return np.concatenate(parts)
