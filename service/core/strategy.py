"""What to ask next, and when to stop.

A bad choice here loses a certificate, it cannot make one (docs/protocol.md, 4.1). Both functions read the state
and return a decision; the certifier carries it out (rules 2 and 4 of certifier.py).
"""

from __future__ import annotations

import math

from .allocation import Allocation, Errors, Outlay, need_of, path_z, term_z, waterfill
from .looks import EARLY_SHARE, EXTENSION_SHARE, Look, max_looks, radius_looks
from .results import Query
from .state import Ask, Plan, State, Stop
from .terms import allowed, at_look, current, futile, looks_that_matter, need

__all__ = ("likely_path", "next_look", "next_pilot", "undone")

# Measured: weights and the pilot's end in docs/protocol.md, 4.3; paths in docs/protocol.md, 4.6.
PLANNED_WEIGHT = 0.9  # alpha's part on the planned level: the rest keeps the other paths alive
PILOT_GOOD, PILOT_FUTILE = 2.0, -4.0  # radius mode: z-scores at which the pilot has seen enough
PATH_LIVE = -3.0  # radius mode: a path this many standard errors away is not worth turning to
SWITCH_GAIN = 1.03  # max mode: leave a path only for one that promises 3% more: estimates wobble by that much
SHIELD_BINDS = 0.97  # max mode: a shield below this part of the own term's promise is what limits the radius
_NO_PATH = -1  # asks for a level's shield


def next_pilot(c: State) -> Ask | Plan | Stop:
    """The next level's pilot, coarsest first; when enough is known, the plan to freeze."""
    unpiloted = [k for k in reversed(range(len(c.levels))) if c.levels[k].pilot_samples == 0]
    if c.radius is not None and len(unpiloted) < len(c.levels):
        finest = len(unpiloted)
        scores = [_score(c, y, k) for y in _candidates(c) for k in range(finest, len(c.levels))]
        best = max(scores)
        # A finer path's score is at most that of the shields piloted so far.
        outlook = max([best, *(_shields_score(c, y, finest) for y in _candidates(c) if unpiloted)])
        if best > PILOT_GOOD:
            return _plan(c)
        if outlook <= PILOT_FUTILE:
            return Stop(hopeless=True)
    if unpiloted:
        return Ask(query=Query(level=unpiloted[0], purpose="pilot", first=0, count=c.pilot))
    return _plan(c)


def _candidates(c: State) -> list[int]:
    """The most voted class of every piloted level."""
    leaders = (level.leader() for level in c.levels)
    return sorted({leader for leader in leaders if leader is not None})


def _score(c: State, label: int, path: int) -> float:
    return path_z(c.cascade, path, [level.estimate(label) for level in c.levels], c.target)


def _shields_score(c: State, label: int, finest: int) -> float:
    return min(
        term_z(c.cascade, k, own=False, estimate=c.levels[k].estimate(label), radius=c.target)
        for k in range(finest, len(c.levels))
    )


def _weights(levels: int, planned: int) -> tuple[float, ...]:
    if levels == 1:
        return (1.0,)
    rest = (1.0 - PLANNED_WEIGHT) / (levels - 1)
    return tuple(PLANNED_WEIGHT if k == planned else rest for k in range(levels))


def _plan(c: State) -> Plan:
    """What to freeze at the end of the pilot: label, weights and every level's looks (rule 2)."""
    label, path, draws = _plan_max(c) if c.radius is None else _plan_radius(c)
    weights = _weights(len(c.levels), path)
    splits = c.cascade.error_split(weights)
    budget = c.remaining
    firsts = [_looks(c, k, path, draws, budget, splits[k])[:1] for k in range(len(c.levels))]
    looks = []
    for k in range(len(c.levels)):
        others = sum(first[0].samples for j, first in enumerate(firsts) if j >= path and j != k and first)
        looks.append(_looks(c, k, path, draws, max(0, budget - others), splits[k]))
    return Plan(label=label, path=path, weights=weights, looks=tuple(looks))


def _looks(
    c: State, k: int, path: int, draws: dict[int, int], cap: int, split: tuple[float, float]
) -> tuple[Look, ...]:
    """Level k's schedule under a cap of `cap` draws."""
    if c.radius is None:
        return max_looks(draws.get(k, c.remaining // 4), cap, c.grain, single=c.single_look)
    scale, law, base = c.cascade.scales[k], c.cascade.laws[k], c.cascade.bases[k]
    if k > path:  # a shield: its rivals must stay under the probability at base - r / scale
        target, error = 1.0 - law.cdf(base - c.target / scale), split[1]
    else:
        target = law.cdf((0.0 if c.cascade.by_plurality(k) else base) + c.target / scale)
        error = split[0]
    return radius_looks(target, c.alpha * error, cap, c.grain, single=c.single_look)


def _heavy_errors(c: State, path: int) -> list[Errors]:
    """The errors of each level's heavy look if `path` is planned."""
    share = c.alpha * (1.0 - EARLY_SHARE - EXTENSION_SHARE)
    return [
        Errors(share * lower, share * upper) for lower, upper in c.cascade.error_split(_weights(len(c.levels), path))
    ]


def _plan_max(c: State) -> tuple[int, int, dict[int, int]]:
    """(label, path, draws of each level on it) with the largest radius that the budget is expected to reach."""
    options = [(y, k) for y in _candidates(c) for k in range(len(c.levels))]
    estimates = {y: [level.estimate(y) for level in c.levels] for y in _candidates(c)}
    errors = [_heavy_errors(c, k) for k in range(len(c.levels))]
    for cautious in (True, False):
        best: tuple[Allocation, int, int] | None = None
        for y, k in options:
            above = None if best is None else best[0].radius
            needs = [
                need_of(c.cascade, j, own=j == k, estimate=estimates[y][j], error=errors[k][j], cautious=cautious)
                for j in range(k, len(c.levels))
            ]
            plan = waterfill(Outlay(needs, c.remaining), above=above)
            if plan is not None:
                best = (plan, y, k)
        if best is not None:
            plan, y, k = best
            return y, k, {k + i: n for i, n in enumerate(plan.draws)}
    y, k = max(options, key=lambda option: path_z(c.cascade, option[1], estimates[option[0]], 0.0))
    even = c.remaining // (len(c.levels) - k)
    return y, k, {j: even for j in range(k, len(c.levels))}


def _plan_radius(c: State) -> tuple[int, int, dict[int, int]]:
    """(label, path, {}) with the best z-score at the requested radius, among paths whose levels were all piloted."""
    finest = sum(level.pilot_samples == 0 for level in c.levels)
    options = [(y, k) for y in _candidates(c) for k in range(finest, len(c.levels))]
    label, path = max(options, key=lambda option: _score(c, *option))
    return label, path, {}


def next_look(c: State) -> Ask | Stop:
    """The next look of the level that matters most, or the end when there is nothing left to gain or to spend.

    Raises ProtocolError before the pilot has chosen a label.
    """
    _, path = c.chosen
    if c.radius is None:
        live = _live_paths(c, 0.0)
        if not live:
            return Stop(hopeless=True)
        path = _best_path(c, path, live)
        return _ask(c, path, _next_max(c, path))
    if c.cascade.radius([allowed(c, k) for k in range(len(c.levels))]) >= c.radius:
        return Stop()
    unmet = _unmet(c, path)
    if any([futile(c, k, path, c.target, c.remaining) for k in unmet]):
        turn = _path_to_radius(c)
        if turn is None:
            return Stop(hopeless=True)
        path, unmet = turn, _unmet(c, turn)
    if len(unmet) > 1:
        unmet = [min(_doubts(c, path, unmet))[1]]
    return _ask(c, path, unmet[0] if unmet else None)


def likely_path(c: State) -> int:
    """While pilots are drawn: the path that looks best on those there are."""
    return _plan_radius(c)[1]


def undone(c: State, path: int) -> list[int]:
    """Levels whose terms on the path are still worth draws: that miss the requested radius, or their heavy look.

    Without a requested radius the own level comes last, and is always worth more.
    """
    if c.radius is not None:
        return _unmet(c, path)
    return [k for k in reversed(range(path, len(c.levels))) if k == path or c.levels[k].taken <= c.levels[k].heavy]


def _ask(c: State, path: int, k: int | None) -> Ask | Stop:
    """Level k's next look, working on `path`; the end where k is None."""
    if k is None:
        return Stop(path=path)
    level = c.levels[k]
    count = level.cost(level.taken)
    return Ask(query=Query(level=k, purpose="estimation", first=level.samples, count=count), path=path)


def _possible(c: State, k: int, path: int, radius: float, budget: int) -> bool:
    """Whether level k's term on `path` allows `radius`, or may come to allow it."""
    value = current(c, k, path)
    return (value >= radius and value > -math.inf) or not futile(c, k, path, radius, budget)


def _live_paths(c: State, radius: float) -> list[int]:
    """Paths with no futile unmet term."""
    live, budget = [], c.remaining
    for path in reversed(range(len(c.levels))):
        if _possible(c, path, path, radius, budget):
            live.append(path)
        if not _possible(c, path, _NO_PATH, radius, budget):  # every finer path needs this shield
            break
    return live[::-1]


def _path_to_radius(c: State) -> int | None:
    """The most promising live path, or None where none is worth turning to."""
    live = _live_paths(c, c.target)
    scores = {other: _doubts(c, other, _unmet(c, other)) for other in live}
    scores = {other: terms for other, terms in scores.items() if terms and min(terms)[0] > PATH_LIVE}
    return max(scores, key=lambda other: min(scores[other])[0], default=None)


def _unmet(c: State, path: int) -> list[int]:
    """Levels whose term on the path misses the requested radius so far."""
    return [k for k in range(path, len(c.levels)) if current(c, k, path) < c.target]


def _doubts(c: State, path: int, unmet: list[int]) -> list[tuple[float, int]]:
    """(z-score, level) of each unmet term; the worst is asked first."""
    label, _ = c.chosen
    estimates = {k: c.levels[k].estimate(label) for k in unmet}
    return [(term_z(c.cascade, k, own=k == path, estimate=estimates[k], radius=c.target), k) for k in unmet]


def _next_max(c: State, path: int) -> int | None:
    """The level on `path` whose next look gains most, or None."""
    budget = c.remaining
    own, shields = c.levels[path], range(path + 1, len(c.levels))
    ready = [k for k in range(path, len(c.levels)) if c.levels[k].affordable(budget) is not None]
    shields_now = sorted((current(c, k, path), -k) for k in shields if k in ready)
    for _, k in ((value, -minus) for value, minus in shields_now):
        if c.levels[k].taken <= c.levels[k].heavy:
            return k
    for value, k in ((value, -minus) for value, minus in shields_now):
        cost = c.levels[k].cost(c.levels[k].taken)
        if cost <= budget / 2 and value < SHIELD_BINDS * _promise(c, path, budget - cost):
            return k
    if path in ready and own.taken <= own.heavy:
        return path
    terms = sorted((current(c, k, path), k) for k in range(path, len(c.levels)))
    return terms[0][1] if terms[0][1] in ready else None


def _best_path(c: State, current: int, live: list[int]) -> int:
    """The current path unless it is dead or another promises clearly more."""
    if live == [current]:
        return current
    done, budget = [level.samples for level in c.levels], c.remaining
    needs = {path: [need(c, k, path) for k in range(path, len(c.levels))] for path in live}
    best, most = live[0], 0.0
    if current in live:
        mine = Outlay(needs.pop(current), budget, done=done[current:])
        # Where this path pays for what others can never reach, it need not be said how far it goes.
        others = max([min([need.reach for need in terms]) for terms in needs.values()])
        if mine.affords(others / SWITCH_GAIN + 2 * mine.step):
            return current
        best, most = current, SWITCH_GAIN * (mine.largest() or 0.0)
    for path, terms in needs.items():
        if (radius := Outlay(terms, budget, done=done[path:]).largest(above=most)) is not None:
            best, most = path, radius
    return best


def _promise(c: State, path: int, budget: int) -> float:
    """The own term's value at the best look that `budget` can complete, if draws go on as they went."""
    label, _ = c.chosen
    estimate = c.levels[path].estimate(label)
    looks = looks_that_matter(c, path, budget)
    return max([current(c, path, path), *(at_look(c, path, path, i, estimate.p, estimate.q) for i in looks)])
