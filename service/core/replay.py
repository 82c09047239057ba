"""What the state machine would plan from a pilot: for votes that were drawn at every scale beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .certificate import Cascade
from .certifier import Certifier

__all__ = ("PilotPlan", "plan_from_pilot")


class PilotPlan(NamedTuple):
    """What is frozen when a pilot ends."""

    label: int
    level: int  # whose path is planned; 0 the finest
    weights: tuple[float, ...]  # of Theorem 3, one per level


def plan_from_pilot(cascade: Cascade, pilot: Sequence[Sequence[int]], alpha: float, samples: int) -> PilotPlan:
    """What Certifier freezes, without a requested radius, when these are its pilot and `samples` draws are to follow.

    pilot: (levels, classes) whole counts, as many draws at each level. The result depends on nothing else: bounds over
    any estimation draws hold for it (docs/protocol.md, 3.2). Raises ValueError as Certifier does, ProtocolError for
    counts that are no votes.
    """
    draws = int(sum(pilot[0]))
    certifier = Certifier(cascade, len(pilot[0]), alpha=alpha, samples=len(pilot) * draws + samples, pilot=draws)
    while (query := certifier.next()) is not None and query.purpose == "pilot":
        certifier.observe(query, pilot[query.level])
    assert certifier.label is not None
    planned = max(range(cascade.levels), key=lambda k: certifier.weights[k])
    return PilotPlan(certifier.label, planned, certifier.weights)
