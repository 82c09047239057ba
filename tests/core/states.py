"""States made by hand: what a certifier would remember at some moment."""

from __future__ import annotations

from collections.abc import Sequence

from certify.models.bundle import Final
from certify.service.core import Cascade
from certify.service.core.certificate import level_bounds
from certify.service.core.looks import Look
from certify.service.core.state import Level, State

SIGMAS = (0.25, 0.5, 1.0)
ALPHA = 0.01
CHUNK = 8
PILOT = 96
LOOKS = (Look(64, 0.1), Look(256, 0.8), Look(384, 0.1))

Votes = Sequence[int]


def piloted(
    *pilots: Votes | None, radius: float | None = None, samples: int = 3_000, final: Final = "threshold"
) -> State:
    """In the pilot; one entry a level, finest first: its pilot's votes, or None where it has not been drawn."""
    levels = [Level(3) for _ in pilots]
    for level, votes in zip(levels, pilots, strict=True):
        if votes is not None:
            level.add_pilot(votes)
    return State(
        cascade=Cascade.of(SIGMAS[-len(pilots) :], 0.5, final),
        classes=3,
        alpha=ALPHA,
        samples=samples,
        radius=radius,
        chunk=CHUNK,
        grain=CHUNK,
        pilot=PILOT,
        single_look=False,
        levels=levels,
    )


def estimating(
    *votes: Votes | None,
    path: int,
    pilots: Sequence[Votes | None] | None = None,
    radius: float | None = None,
    samples: int = 3_000,
    final: Final = "threshold",
    thresholds: Sequence[float] | float = 0.5,
    looks: tuple[Look, ...] = LOOKS,
) -> State:
    """After the freeze, label 0, equal weights, `looks` at each level; `votes` end at a look or are None.

    pilots: without them, 96 votes for the label at each level.
    """
    state = piloted(*(pilots or [(PILOT, 0, 0)] * len(votes)), radius=radius, samples=samples, final=final)
    state.cascade = Cascade.of(state.cascade.sigmas, thresholds, final)
    state.phase, state.label, state.path = "estimate", 0, path
    state.weights = (1 / len(votes),) * len(votes)
    for level, drawn, split in zip(state.levels, votes, state.cascade.error_split(state.weights), strict=True):
        level.freeze(looks, ALPHA, split)
        if drawn is not None:
            level.add(drawn)
            level.taken = [look.samples for look in looks].index(level.samples) + 1
            level.lower, level.upper = level_bounds(*level.split(0), level.samples, level.errors[level.taken - 1])
    return state
