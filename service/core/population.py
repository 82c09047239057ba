"""From images to inputs like them: what a sample of certified images says of the population that it was drawn from.

theta is the share of inputs that are truly certified (right label, true radius of at least r), q the share that the
service certifies so. Each certificate errs with probability alpha at most, hence q <= theta + alpha (1 - theta): a
lower bound of q is one of theta, images and noise taken together (docs/protocol.md, 10).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .bounds import clopper_pearson_lower as lower_bound
from .bounds import clopper_pearson_upper as upper_bound

__all__ = ("Population", "by_class", "images_needed", "interval", "lower_bound", "truly", "upper_bound")

_ROUNDING = 4e-16  # float64 error of truly()'s three operations on values in [0, 1]
# Beyond any data set, so that a share beside its threshold ends the search.
_MOST_IMAGES = 10**8


def interval(successes: int, n: int, alpha: float) -> tuple[float, float]:
    """The exact two-sided interval of a share: each side errs with probability alpha / 2 (Clopper and Pearson, 1934).

    >>> interval(43, 100, 0.05)
    (0.33139101..., 0.53286626...)
    """
    return lower_bound(successes, n, alpha / 2), upper_bound(successes, n, alpha / 2)


def truly(share: float, alpha: float) -> float:
    """The least theta at which a share of `share` is certified, (share - alpha) / (1 - alpha), rounded down.

    share: a lower bound of q, in [0, 1]. alpha: of each image's certificate, in [0, 1); 0 where all is counted.
    """
    if not 0.0 <= alpha < 1.0:
        raise ValueError(f"alpha: expected a failure probability in [0, 1), got {alpha}")
    return max(0.0, (share - alpha) / (1.0 - alpha) - (_ROUNDING if alpha else 0.0))


@dataclass(frozen=True, kw_only=True)
class Population:
    """What `certified` of `images` independent images say of all inputs like them, in one look fixed beforehand.

    certified: with the right label, at the radius asked for. alpha: of each certificate. confidence: in (0, 1), that
    what is said holds. of: how many such statements hold at once with that confidence; the error is split evenly.
    Raises ValueError for counts or probabilities that cannot be.
    """

    images: int
    certified: int
    alpha: float
    confidence: float
    of: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"confidence: expected a probability in (0, 1), got {self.confidence}")
        if self.of < 1:
            raise ValueError(f"of: expected at least one statement, got {self.of}")
        _ = self.at_least  # checks counts and alpha

    @property
    def error(self) -> float:
        """The probability that this one statement may be wrong with."""
        return (1.0 - self.confidence) / self.of

    @property
    def share(self) -> float:
        """Certified among these images, for show; nan of none."""
        return self.certified / self.images if self.images else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Of q, what the service certifies: two-sided, so that each side has half of the error."""
        return interval(self.certified, self.images, self.error)

    @property
    def at_least(self) -> float:
        """Of theta, what is truly so: one-sided, with the whole error. Not to be joined with `interval` into one
        statement: each holds with its own confidence."""
        return truly(lower_bound(self.certified, self.images, self.error), self.alpha)


def by_class(counts: Mapping[str, tuple[int, int]], *, alpha: float, confidence: float) -> dict[str, Population]:
    """name -> (certified, images) as statements that all hold at once: each has its part of the error (Bonferroni)."""
    return {
        name: Population(images=images, certified=certified, alpha=alpha, confidence=confidence, of=len(counts))
        for name, (certified, images) in counts.items()
    }


def images_needed(share: float, *, at_least: float, alpha: float, error: float) -> int | None:
    """About how many images a look at `error` needs to decide theta >= at_least or q < at_least, if q is `share`.

    None: no number of images will, because `share` is at the threshold or within alpha above it.
    """

    def decides(n: int) -> bool:
        passes = truly(lower_bound(math.floor(share * n), n, error), alpha) >= at_least
        return passes or upper_bound(math.ceil(share * n), n, error) < at_least

    low, high = 0, 1
    while not decides(high):
        low, high = high, 2 * high
        if high > _MOST_IMAGES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high
