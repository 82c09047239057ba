"""Exact one-sided Clopper-Pearson bounds, rounded outward.

Every function here errs on the safe side: a lower bound is never above the exact value, an upper bound never below it,
and both are within 1e-9 of it (docs/protocol.md, 7). No normal approximation is used anywhere.
"""

from __future__ import annotations

import math
from functools import lru_cache
from operator import index

from scipy.special import ndtr, ndtri
from scipy.special.cython_special import betaincinv  # the same function, in half the time for one number

__all__ = (
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "floor_radius",
    "normal_cdf",
    "normal_quantile",
    "radius_needed",
)

# Outward rounding. SciPy's (Boost's) inverse incomplete beta is good to about 1e-14; 1e-11 leaves three digits to
# spare and costs less than 1e-10 of radius at any count up to a million.
_MARGIN = 1e-11
# Slack taken off a radius before it is cut to six digits: covers float64 error in Phi^-1 and in the sums of a
# certificate (docs/protocol.md, 2.2).
_RADIUS_SLACK = 1e-9
_RADIUS_DIGITS = 1e6
_GRID_SLACK = 1e-6  # a request with six digits is on the grid, whatever its product with 1e6 rounds to
# Bounds kept, a few hundred bytes each: a look asks for some of the last look's again, and unanimous votes are common.
_CACHED = 8192


def clopper_pearson_lower(successes: int, trials: int, alpha: float) -> float:
    """The p with P[Bin(trials, p) >= successes] = alpha, rounded down; 0 when nothing can be said.

    A success probability below this bound would have produced so many successes with probability at most `alpha`
    (Clopper and Pearson, 1934). alpha: error probability in [0, 1); 0 gives the trivial bound 0. Raises
    ValueError unless 0 <= successes <= trials and alpha is in range.

    >>> clopper_pearson_lower(10_000, 10_000, 0.001)  # 0.001 ** (1 / 10_000)
    0.99930946...
    """
    return _lower(*_check(successes, trials, alpha), alpha)


@lru_cache(maxsize=_CACHED)
def _lower(k: int, n: int, alpha: float) -> float:
    if k == 0 or alpha == 0.0:
        return 0.0
    # Edge counts in closed form: the library's inverse is not defined for a beta parameter of 0.
    exact = math.exp(math.log(alpha) / n) if k == n else betaincinv(float(k), float(n - k + 1), alpha)
    bound = exact * (1.0 - _MARGIN)
    return bound if 0.0 <= bound <= 1.0 else 0.0  # also catches NaN


def clopper_pearson_upper(successes: int, trials: int, alpha: float) -> float:
    """The p with P[Bin(trials, p) <= successes] = alpha, rounded up; 1 when nothing can be said.

    alpha: error probability in [0, 1); 0 gives the trivial bound 1. Raises ValueError as the lower bound does.
    Computed as 1 - BetaInv(alpha; n - k, k + 1): the mirrored form, because 1 - alpha rounds to 1 below 1e-16.
    """
    return _upper(*_check(successes, trials, alpha), alpha)


@lru_cache(maxsize=_CACHED)
def _upper(k: int, n: int, alpha: float) -> float:
    if k == n or alpha == 0.0:
        return 1.0
    exact = -math.expm1(math.log(alpha) / n) if k == 0 else 1.0 - betaincinv(float(n - k), float(k + 1), alpha)
    bound = exact + _MARGIN
    return bound if 0.0 <= bound <= 1.0 else 1.0


def floor_radius(radius: float) -> float:
    """The radius cut to six digits, never up; 0 for anything not positive (docs/protocol.md, 7)."""
    return max(0.0, math.floor((radius - _RADIUS_SLACK) * _RADIUS_DIGITS) / _RADIUS_DIGITS)


def radius_needed(requested: float) -> float:
    """The least unrounded radius whose six digits are at least `requested` (> 0)."""
    return math.ceil(requested * _RADIUS_DIGITS - _GRID_SLACK) / _RADIUS_DIGITS + 2 * _RADIUS_SLACK


def normal_cdf(x: float) -> float:
    """Phi(x)."""
    return float(ndtr(x))


def normal_quantile(p: float) -> float:
    """Phi^-1(p) for p in [0, 1]; exactly 0 at 1/2, -inf at 0, inf at 1."""
    return 0.0 if p == 0.5 else float(ndtri(p))


def _check(successes: int, trials: int, alpha: float) -> tuple[int, int]:
    k, n = index(successes), index(trials)
    if not 0 <= k <= n:
        raise ValueError(f"expected 0 <= successes <= trials, got {k} of {n}")
    if not 0.0 <= alpha < 1.0:
        raise ValueError(f"alpha: expected a failure probability in [0, 1), got {alpha}")
    return k, n
