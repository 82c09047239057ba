"""What is proved while an answer is being sampled, for whoever watches.

It is the state machine's result(), legal and sound at any moment (docs/protocol.md, 3.3): bounds only tighten, so that
a radius that was shown never falls. Watching changes nothing: neither what is drawn nor when it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..backends.base import BackendInfo
from ..core import Certifier, Counter
from .answers import label_of, stages_of
from .certify import Job
from .progress_schemas import ClassVotes, Progress, ProgressLevel

__all__ = ("Watch",)

# Of each scale: what a chart can show, however many classes there are.
_MOST_CLASSES = 10


class Watch:
    """One request that is watched, inside one event loop. on_begin: called when its samples begin."""

    def __init__(self, on_begin: Callable[[], None]) -> None:
        self.changed = asyncio.Event()
        """Set by every look."""
        self._on_begin = on_begin
        self._job: Job | None = None
        self._seen: tuple[Certifier | Counter, NDArray[np.int64]] | None = None

    @property
    def begun(self) -> bool:
        return self._job is not None

    def begin(self, job: Job) -> None:
        self._job = job
        self.changed.set()
        self._on_begin()

    def note(self, certifier: Certifier | Counter, drawn: NDArray[np.int64]) -> None:
        """After a look. drawn: votes of all draws, (levels, K), which goes on growing."""
        self._seen = certifier, drawn
        self.changed.set()

    def progress(self) -> Progress:
        """As it is now. Legal once it has begun."""
        self.changed.clear()
        assert self._job is not None
        plan, info = self._job.plan, self._job.question.info
        if self._seen is None:
            return Progress(samples=0, samples_limit=plan.samples, label=None, sigma=None, radius=0.0, levels=[])
        certifier, drawn = self._seen
        result = certifier.result()
        return Progress(
            samples=result.samples_used,
            samples_limit=plan.samples,
            label=None if result.label is None else label_of(result.label, info),
            sigma=None if result.level is None else plan.sigmas[result.level],
            radius=result.radius,
            levels=[
                ProgressLevel(**stage.model_dump(), votes=_votes(drawn[plan.sigmas.index(stage.sigma)], info))
                for stage in stages_of(result, plan)
            ],
        )


def _votes(votes: NDArray[np.int64], info: BackendInfo) -> list[ClassVotes]:
    """The most voted classes, those of equal votes by their number."""
    most = np.argsort(-votes, kind="stable")[:_MOST_CLASSES].tolist()
    return [ClassVotes(index=k, name=info.class_names[k], count=int(votes[k])) for k in most if votes[k]]
