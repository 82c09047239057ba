"""Where to spend the draws: estimates and planning. Heuristic: it costs draws, never validity.

Nothing here may touch a bound. A plan fixes, before the first estimation draw, which label is certified, how alpha is
divided over levels (weights) and over looks (shares); Theorems 3 and 4 hold for any such choice
(docs/protocol.md, 4.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .bounds import normal_quantile
from .certificate import Cascade
from .laws import Law

__all__ = ("Errors", "Estimate", "Need", "Outlay", "need_of", "path_z", "rate", "term_z", "waterfill")

# Max mode: a term gets up to 8 times its estimated need while that is below 12% of the budget, because the estimate may
# be too good. Measured: docs/protocol.md, 4.4.
SLACK, SLACK_LIMIT = 8.0, 0.12
_BISECTIONS = 16  # radius to 2^-16 of its range: finer than any estimate of a rate
_GUESSES = 12  # by false position; 6 on average, measured on random plans
FUTILITY_LEVEL = 0.005  # a term is given up wrongly once in 200 times at most (docs/protocol.md, 4.6)


Draws = Callable[[float], float]


class Need(NamedTuple):
    """Of one term, by normal theory: a radius that no draws reach, and the draws that a radius needs."""

    reach: float
    draws: Draws


class Estimate(NamedTuple):
    """Smoothed frequencies of the label (p) and its strongest rival (q) among n draws of one level."""

    p: float
    q: float
    n: int


class Errors(NamedTuple):
    """Error probabilities of a level's lower and upper bound at the look that matters."""

    lower: float
    upper: float


def rate(label_count: int, rival_count: int, n: int) -> Estimate:
    """Frequencies of two counts among n >= 0 draws, with half a vote added, so that none is 0 or 1."""
    return Estimate((label_count + 0.5) / (n + 1), (rival_count + 0.5) / (n + 1), n)


def term_z(cascade: Cascade, level: int, *, own: bool, estimate: Estimate, radius: float) -> float:
    """How many standard errors the estimate lies on the good side of what `radius` needs; 0 where nothing is known.

    own: the level's own term, else its shield. radius: >= 0, in the cascade's norm.
    """
    p, q, n = estimate
    if n == 0:
        return 0.0
    scale, law, base = cascade.scales[level], cascade.laws[level], cascade.bases[level]
    if not own:
        return (law.cdf(base - radius / scale) - q) / math.sqrt(q * (1 - q) / n)
    if not cascade.by_plurality(level):
        return (p - law.cdf(base + radius / scale)) / math.sqrt(p * (1 - p) / n)
    # Delta method on the quantiles' difference; the covariance of two multinomial frequencies is -pq/n.
    zp, zq = law.quantile(p), law.quantile(q)
    dp, dq = law.density(zp), law.density(zq)
    variance = (p * (1 - p) / dp**2 + q * (1 - q) / dq**2 + 2 * p * q / (dp * dq)) / n
    return (zp - zq - 2 * radius / scale) / math.sqrt(variance)


def path_z(cascade: Cascade, path: int, estimates: Sequence[Estimate], radius: float) -> float:
    """The weakest term's z-score on path `path`: its own term and the shields of every coarser level.

    estimates: one a level, finest first.
    """
    return min(
        term_z(cascade, k, own=k == path, estimate=estimates[k], radius=radius) for k in range(path, cascade.levels)
    )


def _label_rate(estimate: Estimate, cautious: bool) -> float:
    """The label's rate as the plan takes it: one standard error down, by half at most; a term that fails costs all."""
    p = estimate.p
    return max(p / 2, p - math.sqrt(p * (1 - p) / max(estimate.n, 1))) if cautious else p


def _rival_rate(estimate: Estimate, cautious: bool) -> float:
    """The same for the strongest rival: one standard error up."""
    q = estimate.q
    return q + math.sqrt(q * (1 - q) / max(estimate.n, 1)) if cautious else q


def _log(x: float) -> float:
    """-inf at 0, which bounded noise reaches: any draws do there."""
    return math.log(x) if x > 0.0 else -math.inf


def _log1p(x: float) -> float:
    """log(1 + x), -inf at -1."""
    return math.log1p(x) if x > -1.0 else -math.inf


def _plurality_need(scale: float, law: Law, p: float, q: float, error: float) -> Need:
    z, log_error, cdf = -normal_quantile(error), math.log(error), law.cdf
    zp, zq = law.quantile(p), law.quantile(q)
    slope = z * (math.sqrt(p * (1 - p)) / law.density(zp) + math.sqrt(q * (1 - q)) / law.density(zq))

    def draws(radius: float) -> float:
        gap = zp - zq - 2 * radius / scale
        top = cdf(radius / scale)
        if gap <= 0 or top >= 1.0:
            return math.inf
        return max((slope / gap) ** 2, log_error / _log(top))

    return Need(scale / 2 * (zp - zq), draws)


def _own_need(scale: float, law: Law, base: float, p: float, error: float) -> Need:
    z, log_error, cdf = -normal_quantile(error), math.log(error), law.cdf
    spread = z * z * p * (1 - p)

    def draws(radius: float) -> float:
        target = cdf(base + radius / scale)
        if p <= target or target >= 1.0:
            return math.inf
        return max(spread / (p - target) ** 2, log_error / _log(target))

    return Need(scale * (law.quantile(p) - base), draws)


def _shield_need(scale: float, law: Law, base: float, rival: float, error: float) -> Need:
    z, log_error, cdf = -normal_quantile(error), math.log(error), law.cdf
    spread = z * z * rival * (1 - rival)

    def draws(radius: float) -> float:
        target = cdf(base - radius / scale)
        if rival >= target:
            return math.inf
        return max(spread / (target - rival) ** 2, log_error / _log1p(-target))

    return Need(scale * (base - law.quantile(rival)) if rival < 1 else -math.inf, draws)


def need_of(cascade: Cascade, level: int, *, own: bool, estimate: Estimate, error: Errors, cautious: bool) -> Need:
    """What one term needs. The other limit of each formula is the smallest n at which a unanimous count certifies.

    own: the level's own term, else its shield. cautious: the rate is taken one standard error on the bad side.
    """
    scale, law, base = cascade.scales[level], cascade.laws[level], cascade.bases[level]
    if not own:
        return _shield_need(scale, law, base, _rival_rate(estimate, cautious), error.upper)
    p = _label_rate(estimate, cautious)
    if cascade.by_plurality(level):
        return _plurality_need(scale, law, p, estimate.q, error.lower)
    return _own_need(scale, law, base, p, error.lower)


def _with_slack(need: float, limit: float) -> float:
    """Room for a pilot estimate that was too rosy: SLACK times the need, as far as that is below `limit`."""
    return max(need, min(SLACK * need, limit))


class Allocation(NamedTuple):
    """A radius that the budget is expected to reach on a path, and the draws of each level from the path up."""

    radius: float
    draws: tuple[int, ...]  # draws[0] is the path's own level, then its shields


class Outlay:
    """What a radius costs on a path, in draws, against a budget.

    needs, done: of each term on it, the path's own level, then its shields; `done` draws of a level exist already.
    Without `done` a term is given its need with slack.
    """

    def __init__(self, needs: Sequence[Need], budget: int, *, done: Sequence[int] | None = None) -> None:
        self.reach = min([need.reach for need in needs])  # no draws reach it
        self.step = self.reach / 2**_BISECTIONS  # largest() is as fine as this
        self.needs = needs
        self.budget = budget
        self._terms = [(need.draws, had) for need, had in zip(needs, done or [0] * len(needs), strict=True)]
        self._limit = 0.0 if done else min(SLACK_LIMIT, 0.5 / len(needs)) * budget
        self._least = budget / 100 or 1.0
        self._lowest = 1.0 / math.sqrt(max(budget, self._least))

    def draws(self, need: Need, radius: float) -> float:
        """Of one term."""
        return _with_slack(need.draws(radius), self._limit) if self._limit else need.draws(radius)

    def cost(self, radius: float) -> float:
        """Draws still to be made so that every term allows `radius`."""
        total, limit = 0.0, self._limit
        for draws, had in self._terms:
            needed = draws(radius)
            missing = (_with_slack(needed, limit) if limit else needed) - had
            if missing > 0.0:
                total += missing
        return total

    def affords(self, radius: float) -> bool:
        return radius < self.reach and self.cost(radius) <= self.budget

    def largest(self, above: float | None = None) -> float | None:
        """The largest radius that the budget pays; None if there is none, or none above `above`.

        That is where bisecting [0, reach) ends after _BISECTIONS steps. A term needs draws in proportion to the inverse
        square of its distance from what no draws reach, so 1 / sqrt(cost) is nearly straight, and false position (by
        the Illinois rule: an end that stays counts half) comes there in a few steps.
        """
        if not (self.reach > 0.0 and self.affords(above or 0.0)):
            return None
        low, top = 0, 2**_BISECTIONS  # in steps: low is within the budget, top is not
        left, right = self._height(self.cost(0.0)), self._height(math.inf)
        calls, moved = 0, ""
        while top - low > 1:
            calls += 1
            # Where the curve is far from straight, bisection after all.
            share = left / (left - right) if calls <= _GUESSES else 0.5
            step = min(max(low + int((top - low) * share), low + 1), top - 1)
            spent = self.cost(self.reach * (step / 2**_BISECTIONS))
            if spent <= self.budget:
                low, left, right = step, self._height(spent), right / 2 if moved == "low" else right
                moved = "low"
            else:
                top, right, left = step, self._height(spent), left / 2 if moved == "top" else left
                moved = "top"
        radius = _midpoint(low, self.reach)
        return radius if above is None or radius > above else None

    def _height(self, spent: float) -> float:
        """Above 0 while it is cheaper than the budget."""
        return 1.0 / math.sqrt(spent if spent > self._least else self._least) - self._lowest


def waterfill(outlay: Outlay, *, above: float | None = None) -> Allocation | None:
    """The largest radius at which the needed draws of every term on the path add up to the budget; None if none is.

    above: None, too, unless the radius is above it. Shields get their need with slack; the own level gets the rest.
    """
    radius = outlay.largest(above)
    if radius is None:
        return None
    shields = [math.ceil(outlay.draws(need, radius)) for need in outlay.needs[1:]]
    return Allocation(radius, (max(0, outlay.budget - sum(shields)), *shields))


def _midpoint(number: int, high: float) -> float:
    """Where bisection would have come to: each midpoint is rounded, and plans are compared to the last bit."""
    low = 0.0
    for place in reversed(range(_BISECTIONS)):
        middle = (low + high) / 2
        low, high = (middle, high) if number >> place & 1 else (low, middle)
    return low
