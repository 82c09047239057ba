"""One term of a path, of the votes so far: what it allows, what it may come to allow, and the draws that it needs.

Read by the strategy; levels keep the answers until their votes change (state.Level).
"""

from __future__ import annotations

import math
import operator

from .allocation import FUTILITY_LEVEL, Errors, Need, need_of
from .bounds import clopper_pearson_lower, clopper_pearson_upper
from .certificate import level_bounds
from .state import State

__all__ = ("allowed", "at_look", "current", "futile", "looks_that_matter", "need")


def _value(c: State, k: int, path: int, lower: float, upper: float) -> float:
    """The radius that level k's term on `path` allows under these bounds; -inf where it is open."""
    term = c.cascade.own(k, lower, upper) if k == path else c.cascade.shield(k, upper)
    return -math.inf if term is None else term


def allowed(c: State, k: int) -> tuple[float | None, float | None]:
    """The radii that level k's own term and its shield allow under the running bounds; None where one is open."""
    level = c.levels[k]
    if level.terms is None:
        level.terms = c.cascade.terms(k, level.lower, level.upper)
    return level.terms


def current(c: State, k: int, path: int) -> float:
    """The radius that its term on `path` allows; -inf where it is open."""
    value = allowed(c, k)[k != path]
    return -math.inf if value is None else value


def need(c: State, k: int, path: int) -> Need:
    """What level k's term on `path` needs, if draws go on as they went."""
    level, own = c.levels[k], k == path
    if own not in level.needs:
        label, _ = c.chosen
        error = Errors(*level.errors[level.heavy]) if level.errors else Errors(0.0, 0.0)
        level.needs[own] = need_of(c.cascade, k, own=own, estimate=level.estimate(label), error=error, cautious=False)
    return level.needs[own]


def at_look(c: State, k: int, path: int, look: int, label_rate: float, rival_rate: float) -> float:
    """The term's value at a future look if the remaining draws come at the given rates."""
    label, _ = c.chosen
    level = c.levels[k]
    n = level.looks[look].samples
    more = n - level.samples
    label_count, rival_count = level.split(label)
    label_count = min(n, label_count + math.ceil(more * label_rate))
    if k == path and not c.cascade.by_plurality(k):  # such a term has no upper bound in it
        return _value(c, k, path, clopper_pearson_lower(label_count, n, level.errors[look][0]), 1.0)
    rival_count = min(n - label_count, rival_count + math.floor(more * rival_rate))
    return _value(c, k, path, *level_bounds(label_count, rival_count, n, level.errors[look]))


def looks_that_matter(c: State, k: int, budget: int) -> list[int]:
    """The last look that `budget` can complete, and the heavy one if it is still ahead."""
    level = c.levels[k]
    last = level.affordable(budget)
    if last is None:
        return []
    return [last, level.heavy] if level.taken <= level.heavy < last else [last]


def futile(c: State, k: int, path: int, radius: float, budget: int) -> bool:
    """Whether the term still misses `radius` at its last look, even at the most optimistic plausible rates."""
    level = c.levels[k]
    looks = looks_that_matter(c, k, budget)
    if not looks:
        return True
    asked = (k == path, radius, *looks)
    if (answer := level.futile.get(asked)) is None:
        answer = level.futile[asked] = _misses(c, k, path, radius, looks)
    return answer


def _misses(c: State, k: int, path: int, radius: float, looks: list[int]) -> bool:
    label, _ = c.chosen
    level = c.levels[k]
    label_count, rival_count = map(operator.add, level.split(label), level.split(label, pilot=True))
    n = level.samples + level.pilot_samples
    # What the votes' own rates reach, more optimistic ones do too: most terms need no rate's bounds.
    if n and _reaches(c, k, path, radius, looks, label_count / n, rival_count / n):
        return False
    label_rate = clopper_pearson_upper(label_count, n, FUTILITY_LEVEL)
    rival_rate = clopper_pearson_lower(rival_count, n, FUTILITY_LEVEL)
    return not _reaches(c, k, path, radius, looks, label_rate, rival_rate)


def _reaches(
    c: State, k: int, path: int, radius: float, looks: list[int], label_rate: float, rival_rate: float
) -> bool:
    """Whether the term allows `radius` at one of `looks`, if the remaining draws come at the given rates."""
    for look in looks:
        value = at_look(c, k, path, look, label_rate, rival_rate)
        if value >= radius and value > -math.inf:
            return True
    return False
