"""One level's votes, looks and running bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .allocation import Estimate, rate
from .looks import Look

__all__ = ("Level",)


@dataclass
class Level:
    """Mutable; only the certifier and its strategy touch it."""

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

    def add_pilot(self, votes: Sequence[int]) -> None:
        self.pilot_votes = [a + b for a, b in zip(self.pilot_votes, votes, strict=True)]
        self.pilot_samples += sum(votes)

    def add(self, votes: Sequence[int]) -> None:
        self.votes = [a + b for a, b in zip(self.votes, votes, strict=True)]
        self.samples += sum(votes)

    def freeze(self, looks: tuple[Look, ...], alpha: float, split: tuple[float, float]) -> None:
        """Fix the looks and what each of them spends; `split` is the level's (lower, upper) part of alpha."""
        self.looks = looks
        self.errors = tuple((alpha * split[0] * look.share, alpha * split[1] * look.share) for look in looks)
        self.heavy = max(range(len(looks)), key=lambda i: looks[i].share, default=0)

    def split(self, label: int, *, pilot: bool = False) -> tuple[int, int]:
        """(votes for the label, votes for its strongest rival) among the estimation or the pilot draws."""
        votes = self.pilot_votes if pilot else self.votes
        return votes[label], max(v for c, v in enumerate(votes) if c != label)

    def leader(self) -> int | None:
        """The most voted class, of the estimation draws if there are any; None where nothing was drawn."""
        votes = self.votes if self.samples else self.pilot_votes
        return votes.index(max(votes)) if any(votes) else None

    def estimate(self, label: int) -> Estimate:
        """From all draws: for choosing what to do next, never for a bound."""
        votes = [a + b for a, b in zip(self.pilot_votes, self.votes, strict=True)]
        rival = max(v for c, v in enumerate(votes) if c != label)
        return rate(votes[label], rival, self.pilot_samples + self.samples)

    def cost(self, look: int) -> int:
        """Draws still missing to complete the look of this index."""
        return self.looks[look].samples - self.samples

    def affordable(self, budget: int) -> list[int]:
        """Indices of the looks not taken that `budget` draws can complete, ascending."""
        return [i for i in range(self.taken, len(self.looks)) if self.cost(i) <= budget]

    def state(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Level:
        values = dict(state)
        values["looks"] = tuple(Look(*look) for look in values["looks"])
        values["errors"] = tuple((low, up) for low, up in values["errors"])
        return cls(**values)
