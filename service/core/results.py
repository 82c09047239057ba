"""What goes into and comes out of the state machine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from .certificate import Cascade
from .reasons import Reason

__all__ = ("ProtocolError", "Purpose", "Query", "Result", "StageOutcome", "StageResult", "contribution")

Purpose = Literal["pilot", "estimation"]


class ProtocolError(ValueError):
    """`observe` was called out of turn or with counts that cannot be; the certifier is unchanged."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """Draws wanted: samples first..first+count-1 of the (level, purpose) noise stream."""

    level: int
    purpose: Purpose
    first: int
    count: int


class StageOutcome(StrEnum):
    """What a level contributes to the certificate."""

    PATH = "path"  # the scale that certifies
    PASSED = "passed"  # every rival is provably below this scale's threshold
    OPEN = "open"  # neither


def contribution(
    cascade: Cascade, level: int, best: int | None, lower: float, upper: float
) -> tuple[StageOutcome, float | None]:
    """What `level` is to the certificate of path `best`, and the radius that its own term or its shield allows."""
    if level == best:
        return StageOutcome.PATH, cascade.own(level, lower, upper)
    bound = cascade.shield(level, upper)
    return (StageOutcome.OPEN if bound is None else StageOutcome.PASSED), bound


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """One level. Counts and bounds are those of the certifier's label; all zero or trivial before one is chosen."""

    level: int
    sigma: float
    outcome: StageOutcome
    samples: int  # estimation draws
    pilot_samples: int
    count: int
    rival_count: int  # of the most voted other class
    p_lower: float
    p_rival_upper: float
    radius_bound: float | None  # the most that this level's own term (path) or shield (passed) allows, unrounded


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is proved so far, and what was spent on it."""

    label: int | None  # None: abstain
    radius: float  # in the cascade's norm, six digits, rounded down; 0.0 when abstaining
    level: int | None  # of the best path
    samples_used: int  # pilots included
    reason: Reason
    complete: bool  # nothing more will be asked
    has_data: bool  # at least one look has been completed
    stages: tuple[StageResult, ...]  # finest first
