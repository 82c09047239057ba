"""What may be asked next, while a query is pending: for whoever has idle hands. A guess; nothing rests on it."""

from __future__ import annotations

from . import strategy
from .allocation import Estimate, path_z, rate
from .results import Purpose, Query
from .state import State
from .terms import at_look

__all__ = ("outlook",)


def outlook(c: State) -> list[Query]:
    """Queries that may follow the pending one, the likeliest first; each begins where its stream has been drawn to.

    The strategy may come to ask for fewer or more draws of a stream, for another, or for none. Draws that are made
    ahead and never asked for are never seen: votes belong to their place in a stream, not to when they were drawn.
    """
    if c.pending is None:
        return []
    likely = _pilots(c, c.pending) if c.phase == "pilot" else _looks(c, c.pending)
    left, affordable = c.remaining - c.pending.count, []
    for query in likely:
        if 0 < query.count <= left:
            affordable.append(query)
            left -= query.count
    return affordable


def _pilots(c: State, pending: Query) -> list[Query]:
    """The other levels' pilots, and of the path that looks best so far the first draws of each term.

    With a requested radius the pilots may end with this one: then the path's own level comes before all but the next,
    and before that one too where it probably will.
    """
    levels = range(len(c.levels))
    pilots = [k for k in reversed(levels) if not c.levels[k].pilot_samples and k != pending.level]
    ends = _will_end(c, pending.level)
    path = pending.level
    if not ends and any(level.pilot_samples for level in c.levels):
        path = strategy.likely_path(c)
    asked = [_query(k, "pilot", 0, c.pilot) for k in pilots]
    terms = [_query(k, "estimation", 0, c.grain) for k in levels[path:] if k not in pilots]
    if ends:
        return [*terms, *asked]
    return [*asked, *terms] if c.radius is None else [*asked[:1], *terms, *asked[1:]]


def _will_end(c: State, k: int) -> bool:
    """Whether the pilots end with level k's, if the next coarser one's votes tell how far the label's region reaches.

    At half the noise a margin counts twice, as of a half-space.
    """
    if c.radius is None or k + 1 == len(c.levels) or (label := c.levels[k + 1].leader()) is None:
        return False
    estimates = [level.estimate(label) for level in c.levels]
    p, q, n = estimates[k + 1]
    scales, laws = c.cascade.scales, c.cascade.laws

    most, least, _ = rate(n, 0, n)  # what so many votes can say

    def nearer(share: float) -> float:
        return min(most, max(least, laws[k].cdf(laws[k + 1].quantile(share) * scales[k + 1] / scales[k])))

    estimates[k] = Estimate(nearer(p), nearer(q), n)
    return path_z(c.cascade, k, estimates, c.target) > strategy.PILOT_GOOD


def _looks(c: State, pending: Query) -> list[Query]:
    """The first open look of the path's other terms, as long as they have something to gain; then the level's next.

    Where the pending look will do for a requested radius, if draws go on as they went, none comes after it there.
    """
    _, path = c.chosen
    likely = []
    for k in strategy.undone(c, path):
        level = c.levels[k]
        if k == pending.level and _will_do(c, k, path):
            continue
        at = level.taken + (k == pending.level)
        if at < len(level.looks):
            first = level.samples + (pending.count if k == pending.level else 0)
            likely.append((k == pending.level, _query(k, "estimation", first, level.looks[at].samples - first)))
    return [query for _, query in sorted(likely, key=lambda pair: pair[0])]


def _will_do(c: State, k: int, path: int) -> bool:
    """Whether level k's term allows the requested radius after its next look, if draws go on as they went."""
    if c.radius is None:
        return False
    label, _ = c.chosen
    level = c.levels[k]
    estimate = level.estimate(label)
    return at_look(c, k, path, level.taken, estimate.p, estimate.q) >= c.target


def _query(level: int, purpose: Purpose, first: int, count: int) -> Query:
    return Query(level=level, purpose=purpose, first=first, count=count)
