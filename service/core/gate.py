"""A sequential gate: whether a share of at least t is certified, decided as soon as it is known.

Rules (docs/protocol.md, 10.2 and 10.3):
1. Thresholds, looks and shares of the error are fixed before the first image.
2. Images come in a random order. A look uses exactly the first n of its stream: all images, or those of a class.
3. Pass and fail have half of the error each. Each divides it over its looks, and over what is required (Holm).
4. Whoever watches may stop at any time: bounds of every look hold at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from .looks import LAST_SHARE, Look, radius_looks
from .population import images_needed, lower_bound, truly, upper_bound
from .results import ProtocolError

__all__ = ("Gate", "GateVerdict", "Requirement", "Standing")


class GateVerdict(StrEnum):
    PASS = "pass"  # theta is at least the threshold, of everything that is required
    FAIL = "fail"  # q is below the threshold, of something that is required
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A share that is required of all inputs, or of those of one class.

    group: the class; None: all. at_least: the share, in (0, 1). images: how many of the group there are at most: the
    last look. weight: part of the error, > 0; those of a gate sum to 1.
    """

    group: int | None
    at_least: float
    images: int
    weight: float

    def __post_init__(self) -> None:
        if not 0.0 < self.at_least < 1.0:
            raise ValueError(f"at_least: expected a share in (0, 1), got {self.at_least}")
        if self.images < 0:
            raise ValueError(f"images: expected a number >= 0, got {self.images}")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What is known of one requirement. Bounds are at its own part of the error, and hold at once with the others'."""

    requirement: Requirement
    verdict: GateVerdict  # by Holm's steps, which may decide a little before the bounds below do
    images: int
    certified: int
    at_least: float  # lower bound of theta
    at_most: float  # upper bound of q
    needed: int | None  # about how many of the group would decide, at this share; None: no number, or nothing is known


@dataclass
class _Stream:
    """One requirement's images, and what was seen at its looks."""

    requirement: Requirement
    looks: tuple[tuple[Look, ...], tuple[Look, ...]]  # to pass, to fail
    images: int = 0
    certified: int = 0
    seen: tuple[list[tuple[int, Look]], list[tuple[int, Look]]] = field(default_factory=lambda: ([], []))

    def observe(self, certified: bool) -> bool:
        """Whether a look was taken."""
        self.images += 1
        self.certified += certified
        taken = False
        for looks, seen in zip(self.looks, self.seen, strict=True):
            if len(seen) < len(looks) and looks[len(seen)].samples == self.images:
                seen.append((self.certified, looks[len(seen)]))
                taken = True
        return taken

    def lower(self, alpha: float, error: float) -> float:
        """Of theta: the best of the looks taken."""
        bounds = (lower_bound(count, look.samples, error * look.share) for count, look in self.seen[0])
        return truly(max(bounds, default=0.0), alpha)

    def upper(self, error: float) -> float:
        """Of q."""
        bounds = (upper_bound(count, look.samples, error * look.share) for count, look in self.seen[1])
        return min(bounds, default=1.0)


class Gate:
    """`while gate.verdict is UNDECIDED: gate.observe(group, certified)`, an image after the other in random order.

    pass: everything required is at least its share, in theta; wrong with probability (1 - confidence) / 2 at most, and
    so is fail: something required is below its share, in q. alpha: of each certificate, in [0, 1). Raises ValueError
    for requirements that cannot be.
    """

    def __init__(self, requirements: Sequence[Requirement], *, alpha: float, confidence: float) -> None:
        if not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence: expected a probability in (0, 1), got {confidence}")
        if not 0.0 <= alpha < 1.0:
            raise ValueError(f"alpha: expected a failure probability in [0, 1), got {alpha}")
        weights = [each.weight for each in requirements]
        if not (abs(sum(weights) - 1.0) <= 1e-9 and all(weight > 0.0 for weight in weights)):  # nan is neither
            raise ValueError("weight: expected parts of the error > 0 that sum to 1")
        if len({each.group for each in requirements}) != len(requirements):
            raise ValueError("group: expected each once")
        self.alpha, self.confidence = alpha, confidence
        self._error = (1.0 - confidence) / 2
        self._streams = [_Stream(each, self._looks(each)) for each in requirements]
        self._passed: set[int] = set()  # streams, by Holm
        self._failed: set[int] = set()

    def _looks(self, required: Requirement) -> tuple[tuple[Look, ...], tuple[Look, ...]]:
        """To pass from the first n at which all certified would do, to fail from the first at which none would."""
        error = self._error * required.weight
        q = self.alpha + (1.0 - self.alpha) * required.at_least
        return radius_looks(q, error, required.images, 1), radius_looks(
            1.0 - required.at_least, error, required.images, 1
        )

    @property
    def verdict(self) -> GateVerdict:
        if self._failed:
            return GateVerdict.FAIL
        return GateVerdict.PASS if len(self._passed) == len(self._streams) else GateVerdict.UNDECIDED

    def observe(self, group: int, certified: bool) -> None:
        """The next image: its true class, and whether it was certified at the radius with the right label.

        Raises ProtocolError when all is decided, or the group has no image left.
        """
        if self.verdict is not GateVerdict.UNDECIDED:
            raise ProtocolError(f"observe: expected no image after the verdict {self.verdict}")
        mine = [stream for stream in self._streams if stream.requirement.group in (None, group)]
        if full := [stream for stream in mine if stream.images == stream.requirement.images]:
            raise ProtocolError(
                f"observe: expected {full[0].images} images of group {full[0].requirement.group}, got more"
            )
        if any([stream.observe(certified) for stream in mine]):
            self._decide()

    def _decide(self) -> None:
        streams = self._streams
        self._passed = self._holm(
            lambda i, error: streams[i].lower(self.alpha, error) >= streams[i].requirement.at_least
        )
        self._failed = self._holm(lambda i, error: streams[i].upper(error) < streams[i].requirement.at_least)

    def _holm(self, shown: Callable[[int, float], bool]) -> set[int]:
        """Holm 1979, weighted: what is shown leaves its part to the rest. Any of it is wrong with the error at most."""
        rest = set(range(len(self._streams)))
        while rest:
            whole = sum(self._streams[i].requirement.weight for i in rest)
            step = {i for i in rest if shown(i, self._error * self._streams[i].requirement.weight / whole)}
            if not step:
                break
            rest -= step
        return set(range(len(self._streams))) - rest

    def standings(self) -> list[Standing]:
        """In the order of the requirements."""
        return [self._standing(i) for i in range(len(self._streams))]

    def _standing(self, i: int) -> Standing:
        stream = self._streams[i]
        error = self._error * stream.requirement.weight
        verdict = (
            GateVerdict.PASS if i in self._passed else GateVerdict.FAIL if i in self._failed else GateVerdict.UNDECIDED
        )
        return Standing(
            requirement=stream.requirement,
            verdict=verdict,
            images=stream.images,
            certified=stream.certified,
            at_least=stream.lower(self.alpha, error),
            at_most=stream.upper(error),
            needed=self._needed(stream, error),
        )

    def _needed(self, stream: _Stream, error: float) -> int | None:
        if not stream.images:
            return None
        share, required = stream.certified / stream.images, stream.requirement
        return images_needed(share, at_least=required.at_least, alpha=self.alpha, error=error * LAST_SHARE)
