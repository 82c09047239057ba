"""All that a certifier remembers, and what the strategy may answer to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from operator import add
from typing import Any, Literal

from .allocation import Estimate, Need, rate
from .bounds import radius_needed
from .certificate import Cascade
from .laws import Noise
from .looks import Look
from .results import ProtocolError, Query

__all__ = ("Ask", "Decision", "Level", "Phase", "Plan", "State", "Stop")

Phase = Literal["pilot", "estimate", "done"]


@dataclass
class Level:
    """One level's votes, looks and running bounds. Only the certifier changes it.

    Votes are one count a class. lower, upper: the label's and its rivals' bounds, in [0, 1], trivial before a look.
    """

    classes: int
    pilot_votes: list[int] = field(default_factory=list)
    votes: list[int] = field(default_factory=list)
    pilot_samples: int = 0
    samples: int = 0  # estimation draws: always where a look ends
    looks: tuple[Look, ...] = ()
    # (lower, upper) error of each look: alpha * weight * share, computed once so that a replay is bit-exact.
    errors: tuple[tuple[float, float], ...] = ()
    heavy: int = 0  # index of the look with the largest share
    taken: int = 0  # looks taken
    lower: float = 0.0
    upper: float = 1.0

    def __post_init__(self) -> None:
        self.pilot_votes = self.pilot_votes or [0] * self.classes
        self.votes = self.votes or [0] * self.classes
        # What was last asked about these votes: a look changes one level, and the strategy asks about all of them.
        self._estimates: dict[int, Estimate] = {}
        self._splits: dict[tuple[int, bool], tuple[int, int]] = {}
        # The strategy's: answers by what it asked; what the own term and the shield allow under the running bounds; by
        # whether it is the own term, the draws that it needs.
        self.futile: dict[object, bool] = {}
        self.terms: tuple[float | None, float | None] | None = None
        self.needs: dict[bool, Need] = {}

    def add_pilot(self, votes: Sequence[int]) -> None:
        """Take pilot votes, one count a class."""
        self.pilot_votes = [a + b for a, b in zip(self.pilot_votes, votes, strict=True)]
        self.pilot_samples += sum(votes)
        self._forget()

    def add(self, votes: Sequence[int]) -> None:
        """Take estimation votes, one count a class."""
        self.votes = [a + b for a, b in zip(self.votes, votes, strict=True)]
        self.samples += sum(votes)
        self._forget()

    def _forget(self) -> None:
        self._estimates.clear()
        self._splits.clear()
        self.futile.clear()
        self.needs.clear()

    def tighten(self, lower: float, upper: float) -> None:
        """Take a look's bounds; the running ones are the best of all looks."""
        self.lower, self.upper = max(self.lower, lower), min(self.upper, upper)
        self.terms = None

    def freeze(self, looks: tuple[Look, ...], alpha: float, split: tuple[float, float]) -> None:
        """Fix the looks and what each of them spends; `split` is the level's (lower, upper) part of alpha."""
        self.looks = looks
        self.errors = tuple((alpha * split[0] * look.share, alpha * split[1] * look.share) for look in looks)
        self.heavy = max(range(len(looks)), key=lambda i: looks[i].share, default=0)

    def split(self, label: int, *, pilot: bool = False) -> tuple[int, int]:
        """(votes for the label, votes for its strongest rival) among the estimation or the pilot draws."""
        if (split := self._splits.get((label, pilot))) is None:
            split = self._splits[label, pilot] = _split(self.pilot_votes if pilot else self.votes, label)
        return split

    def leader(self) -> int | None:
        """The most voted class, of the estimation draws if there are any; None where nothing was drawn."""
        votes = self.votes if self.samples else self.pilot_votes
        return votes.index(max(votes)) if any(votes) else None

    def estimate(self, label: int) -> Estimate:
        """From all draws: for choosing what to do next, never for a bound."""
        if (estimate := self._estimates.get(label)) is None:
            votes = list(map(add, self.pilot_votes, self.votes))
            estimate = self._estimates[label] = rate(*_split(votes, label), self.pilot_samples + self.samples)
        return estimate

    def cost(self, look: int) -> int:
        """Draws still missing to complete the look of this index."""
        return self.looks[look].samples - self.samples

    def affordable(self, budget: int) -> int | None:
        """Index of the last look not taken that `budget` draws can complete, as they can all before it."""
        end = self.samples + budget
        for i in reversed(range(self.taken, len(self.looks))):
            if self.looks[i].samples <= end:
                return i
        return None


def _split(votes: Sequence[int], label: int) -> tuple[int, int]:
    return votes[label], max([*votes[:label], *votes[label + 1 :]])


@dataclass(kw_only=True)
class State:
    """Only the certifier changes it; the strategy reads it. The fields before `levels` never change (see Certifier)."""

    cascade: Cascade
    classes: int
    alpha: float
    samples: int
    radius: float | None  # as requested
    chunk: int
    grain: int
    pilot: int  # draws of each level's pilot
    single_look: bool
    levels: list[Level]
    phase: Phase = "pilot"
    label: int | None = None  # frozen with the weights when the pilot ends
    path: int | None = None  # the level whose path is being worked on
    weights: tuple[float, ...] = ()
    hopeless: bool = False
    pending: Query | None = None

    @property
    def used(self) -> int:
        """Draws spent so far, pilots included."""
        used = 0
        for level in self.levels:
            used += level.pilot_samples + level.samples
        return used

    @property
    def remaining(self) -> int:
        """Draws that may still be spent."""
        return self.samples - self.used

    @cached_property
    def target(self) -> float:
        """What the terms must reach so that the radius, once cut to six digits, is the requested one; 0 without one."""
        return 0.0 if self.radius is None else radius_needed(self.radius)

    @property
    def chosen(self) -> tuple[int, int]:
        """(label, path). Raises ProtocolError before the pilot has chosen them."""
        if self.label is None or self.path is None:
            raise ProtocolError(f"phase {self.phase!r}: no label has been chosen")
        return self.label, self.path

    def as_dict(self) -> dict[str, Any]:
        """A deep copy, as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> State:
        """The state whose `as_dict()` this is, also after a journey through JSON."""
        cascade, pending = state["cascade"], state["pending"]
        noise = [Noise(kind, scale) for kind, scale in cascade["noise"]]
        levels = [
            level
            | {
                "looks": tuple(Look(*look) for look in level["looks"]),
                "errors": tuple((low, up) for low, up in level["errors"]),
            }
            for level in state["levels"]
        ]
        values = {
            "cascade": Cascade.of(cascade["sigmas"], cascade["thresholds"], cascade["final"], noise),
            "levels": [Level(**level) for level in levels],
            "weights": tuple(state["weights"]),
            "pending": None if pending is None else Query(**pending),
        }
        return cls(**{**state, **values})


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Draws wanted next; `path`, where it is given, is worked on from now on."""

    query: Query
    path: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The pilot is over: rule 2 freezes this. looks: one schedule a level."""

    label: int
    path: int
    weights: tuple[float, ...]
    looks: tuple[tuple[Look, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Nothing left to gain or to spend. hopeless: no path is worth more draws."""

    path: int | None = None
    hopeless: bool = False


Decision = Ask | Plan | Stop
