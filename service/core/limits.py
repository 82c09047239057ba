"""What a budget can certify at best: the answer to unanimous votes, found by asking the certifier itself."""

from __future__ import annotations

from functools import lru_cache

from .certificate import Cascade
from .certifier import Certifier

__all__ = ("max_radius", "min_samples", "reachable")

_CLASSES = 2  # the rivals of a unanimous vote have no votes, however many there are
_MOST_DRAWS = 2**40  # beyond any budget; float64 bounds still tell counts apart
_FARTHEST = 40  # no quantile of unit noise reaches it in float64
_CACHED = 1024  # parameter sets kept; requests come with few different ones


def _unanimous(cascade: Cascade, alpha: float, samples: int, chunk: int, grain: int, radius: float | None) -> float:
    """The radius certified when every draw at every scale votes for one class; 0.0 when the budget is too small.

    Without a requested radius: the first that is certified.
    """
    try:
        certifier = Certifier(cascade, _CLASSES, alpha=alpha, samples=samples, radius=radius, chunk=chunk, grain=grain)
    except ValueError:
        return 0.0
    while (query := certifier.next()) is not None:
        certifier.observe(query, (query.count, 0))
        if radius is None and (proved := certifier.result().radius):
            return proved  # that it certifies is all that is asked without a radius
    return certifier.result().radius


def reachable(
    cascade: Cascade,
    *,
    alpha: float,
    samples: int,
    radius: float | None = None,
    chunk: int = 1,
    grain: int | None = None,
) -> bool:
    """Whether unanimous votes are certified at all, or at `radius`: one run, where the limits below take dozens.

    alpha, samples, chunk, grain: as of the Certifier that will be asked.
    """
    if radius is not None and radius > _FARTHEST * max(cascade.scales):
        return False
    return _reachable(cascade, float(alpha), samples // chunk * chunk, radius, chunk, grain or chunk)


@lru_cache(maxsize=_CACHED)
def _reachable(cascade: Cascade, alpha: float, samples: int, radius: float | None, chunk: int, grain: int) -> bool:
    reached = _unanimous(cascade, alpha, samples, chunk, grain, radius)
    return reached > 0.0 if radius is None else reached >= radius


def min_samples(cascade: Cascade, *, alpha: float, chunk: int = 1, grain: int | None = None) -> int:
    """The smallest budget, pilots included, at which anything can be certified (with unanimous votes).

    alpha, chunk, grain: as of the Certifier that will be given the budget. Raises OverflowError where no budget
    suffices: a threshold within 1e-11 of 1.
    """
    return _min_samples(cascade, float(alpha), chunk, grain or chunk)


@lru_cache(maxsize=_CACHED)
def _min_samples(cascade: Cascade, alpha: float, chunk: int, grain: int) -> int:
    low, high = 0, 1  # in chunks: low cannot, high can
    while not _unanimous(cascade, alpha, high * chunk, chunk, grain, None) > 0.0:
        low, high = high, 2 * high
        if high > _MOST_DRAWS:
            raise OverflowError(f"threshold: {max(cascade.thresholds)} is out of reach of {_MOST_DRAWS} samples")
    while high - low > 1:
        middle = (low + high) // 2
        can = _unanimous(cascade, alpha, middle * chunk, chunk, grain, None) > 0.0
        low, high = (low, middle) if can else (middle, high)
    return high * chunk


def max_radius(cascade: Cascade, *, alpha: float, samples: int, chunk: int = 1, grain: int | None = None) -> float:
    """The largest radius that may be requested of these scales, samples and alpha; 0.0 if none can be met.

    In the cascade's norm, six digits, rounded down; a request for it is met when every draw votes for one class.
    alpha, samples, chunk, grain: as of the Certifier that will be asked.
    """
    return _max_radius(cascade, float(alpha), samples // chunk * chunk, chunk, grain or chunk)


@lru_cache(maxsize=_CACHED)
def _max_radius(cascade: Cascade, alpha: float, samples: int, chunk: int, grain: int) -> float:
    scale = 1_000_000  # radii are cut to six digits
    low, high = 0, int(_FARTHEST * max(cascade.scales) * scale)
    while high - low > 1:
        middle = (low + high) // 2
        radius = middle / scale
        can = _unanimous(cascade, alpha, samples, chunk, grain, radius) >= radius
        low, high = (middle, high) if can else (low, middle)
    return low / scale
