"""The strategy reads a state and returns a decision; on states made by hand, which decision."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from certify.service.core import Cascade, Certifier, ProtocolError, Query
from certify.service.core.looks import Look
from certify.service.core.state import Ask, Decision, Plan, State, Stop
from certify.service.core.strategy import next_look, next_pilot
from tests.core.states import CHUNK, LOOKS, PILOT, estimating, piloted


def decided(strategy: Callable[[State], Decision], state: State) -> Decision:
    """The decision; the state is as it was, and another that remembers the same leads to the same decision."""
    before = json.dumps(state.as_dict())
    decision = strategy(state)
    assert json.dumps(state.as_dict()) == before
    assert strategy(State.from_dict(json.loads(before))) == decision
    return decision


def pilot_of(level: int) -> Ask:
    return Ask(query=Query(level=level, purpose="pilot", first=0, count=PILOT))


def look_of(level: int, path: int, first: int = 0, until: int = LOOKS[0].samples) -> Ask:
    return Ask(query=Query(level=level, purpose="estimation", first=first, count=until - first), path=path)


SURE, LIKELY, SPLIT, TORN, AGAINST = (96, 0, 0), (80, 12, 4), (50, 46, 0), (32, 32, 32), (4, 90, 2)


@pytest.mark.parametrize("radius", [None, 0.4])
def test_the_coarsest_level_is_piloted_first(radius):
    assert decided(next_pilot, piloted(None, None, None, radius=radius)) == pilot_of(2)


@pytest.mark.parametrize(("pilots", "next_level"), [((None, None, SURE), 1), ((None, SURE, SURE), 0)])
def test_without_a_radius_every_level_is_piloted(pilots, next_level):
    assert decided(next_pilot, piloted(*pilots)) == pilot_of(next_level)


def test_with_a_radius_the_pilot_goes_on_only_while_it_is_in_doubt():
    assert decided(next_pilot, piloted(None, None, SPLIT, radius=0.05)) == pilot_of(1)
    plan = decided(next_pilot, piloted(None, None, SURE, radius=0.4))
    assert isinstance(plan, Plan)
    assert (plan.label, plan.path) == (0, 2)
    assert decided(next_pilot, piloted(None, None, (48, 48, 0), radius=2.0)) == Stop(hopeless=True)


@pytest.mark.parametrize("final", ["threshold", "plurality"])
@pytest.mark.parametrize(
    ("radius", "pilots", "label", "path"),
    [
        (None, (SURE, SURE, SURE), 0, 2),
        (None, (SURE, LIKELY, TORN), 0, 1),  # the coarsest level keeps rivals down and passes
        (None, (SURE, TORN, TORN), 0, 0),
        (None, (SURE, SURE, AGAINST), 1, 2),  # the coarsest level answers first
        (0.1, (SURE, SURE, SURE), 0, 2),
        (0.1, (SURE, TORN, TORN), 0, 0),
        (0.1, (SURE, SURE, AGAINST), 1, 2),
    ],
)
def test_the_plan_is_the_label_and_path_that_the_votes_promise_most(pilots, label, path, final, radius):
    state = piloted(*pilots, final=final, radius=radius)
    plan = decided(next_pilot, state)
    assert isinstance(plan, Plan)
    assert (plan.label, plan.path) == (label, path)
    assert plan.weights[path] == 0.9 and sum(plan.weights) == pytest.approx(1.0)
    firsts = [looks[0].samples for looks in plan.looks]
    for k, looks in enumerate(plan.looks):
        others = sum(first for j, first in enumerate(firsts) if j >= path and j != k)
        assert looks[-1].samples + others <= state.remaining  # a look out of reach would hold alpha for nothing
        sizes = [look.samples for look in looks]
        assert sizes == sorted(set(sizes)) and all(size % CHUNK == 0 for size in sizes)
        assert sum(look.share for look in looks) <= 1 + 1e-12


def test_one_level_has_all_of_alpha():
    plan = decided(next_pilot, piloted(SURE))
    assert isinstance(plan, Plan) and plan.weights == (1.0,)


def test_a_plan_is_made_even_where_no_path_promises_anything():
    plan = decided(next_pilot, piloted((48, 48, 0), (48, 48, 0)))
    assert isinstance(plan, Plan)


@pytest.mark.parametrize("radius", [None, 0.1])
def test_no_look_is_chosen_before_a_label(radius):
    with pytest.raises(ProtocolError, match="no label has been chosen"):
        next_look(piloted(SURE, SURE, SURE, radius=radius))


SURE_64, SURE_256, SURE_384 = (64, 0, 0), (256, 0, 0), (384, 0, 0)


@pytest.mark.parametrize(
    ("votes", "path", "expected"),
    [
        ((None, None), 1, look_of(1, path=1)),  # the coarsest level has no shield above it
        ((None, None), 0, look_of(1, path=1)),  # the coarser path promises more
        ((None, (32, 32, 0)), 0, look_of(1, path=0, first=64, until=256)),  # a shield first, up to its heavy look
        ((None, (160, 96, 0)), 0, look_of(1, path=0, first=256, until=384)),  # and beyond it while it binds
        ((SURE_384, SURE_384), 1, Stop(path=1)),  # every look of the path is taken
    ],
)
def test_without_a_radius_the_next_look_is_the_one_that_gains_most(votes, path, expected):
    assert decided(next_look, estimating(*votes, path=path)) == expected


def test_behind_a_shield_that_holds_the_own_level_is_drawn():
    state = estimating(None, (140, 58, 58), path=0, pilots=(LIKELY, (52, 22, 22)))
    assert decided(next_look, state) == look_of(0, path=0)


def test_a_shield_is_drawn_up_to_its_heavy_look_even_where_the_own_level_promises_less():
    state = estimating(None, (32, 16, 16), path=0, pilots=((56, 36, 4), (48, 24, 24)))
    assert decided(next_look, state) == look_of(1, path=0, first=64, until=256)


def test_a_shield_that_binds_gets_at_most_half_of_what_is_left():
    spent = 2 * PILOT + 256
    rich, poor = (estimating(None, (160, 96, 0), path=0, samples=spent + more) for more in (256, 248))
    assert decided(next_look, rich) == look_of(1, path=0, first=256, until=384)
    assert decided(next_look, poor) == look_of(0, path=0)


def test_the_own_level_is_drawn_up_to_its_heavy_look_even_where_a_shield_limits_the_radius():
    state = estimating(SURE_64, (200, 92, 92), path=0)
    assert decided(next_look, state) == look_of(0, path=0, first=64, until=256)


def test_a_budget_too_small_for_a_look_ends_it_with_what_is_proved():
    spent = 2 * PILOT + 256
    assert decided(next_look, estimating(None, SURE_256, path=1, samples=spent)) == Stop(path=1)
    assert decided(next_look, estimating(None, SURE_256, path=1, samples=spent + 128)) == look_of(1, 1, 256, 384)


@pytest.mark.parametrize("radius", [None, 0.1])
def test_votes_without_hope_end_it(radius):
    torn = [TORN] * 2
    votes = [(86, 85, 85)] * 2
    state = estimating(*votes, path=0, pilots=torn, radius=radius)
    assert decided(next_look, state) == Stop(hopeless=True)


def test_with_a_radius_it_ends_once_the_radius_is_proved():
    assert decided(next_look, estimating(None, SURE_256, path=1, radius=1.0)) == Stop()
    assert decided(next_look, estimating(None, SURE_64, path=1, radius=1.9)) == look_of(1, 1, 64, 256)


def test_with_a_radius_the_term_in_most_doubt_is_asked_next():
    weak_own = estimating(None, None, path=0, radius=0.1, pilots=(LIKELY, SURE))
    weak_shield = estimating(None, None, path=0, radius=0.1, pilots=(SURE, SPLIT))
    assert decided(next_look, weak_own) == look_of(0, path=0)
    assert decided(next_look, weak_shield) == look_of(1, path=0)


def test_with_a_radius_a_path_that_is_dead_is_left_for_one_that_lives():
    state = estimating(None, (110, 90, 56), path=1, radius=0.05, pilots=(SURE, (40, 33, 23)))
    assert decided(next_look, state) == look_of(0, path=0)


@pytest.mark.parametrize(("rival", "turned_to"), [(92, True), (96, False)])
def test_with_a_radius_no_path_three_standard_errors_away_is_turned_to(rival, turned_to):
    """The rival must stay below .97 at level 1; as far as futility goes, even 96 of 96 might still do."""
    long = (Look(4_096, 1.0),)
    pilots = (SURE, (96 - rival, rival, 0))
    state = estimating(
        None, None, path=1, radius=0.445, pilots=pilots, samples=10_000, thresholds=(0.5, 0.99), looks=long
    )
    asked = look_of(1, path=0, until=4_096)
    assert decided(next_look, state) == (asked if turned_to else Stop(hopeless=True))


@pytest.mark.parametrize("radius", [None, 0.3])
@pytest.mark.parametrize("final", ["threshold", "plurality"])
def test_on_the_way_through_an_answer_the_strategy_changes_nothing(radius, final):
    rates = np.array([[0.95, 0.04, 0.01], [0.85, 0.1, 0.05], [0.6, 0.3, 0.1]])
    random = np.random.default_rng(7)
    machine = Certifier(Cascade.of((0.25, 0.5, 1.0), 0.5, final), 3, alpha=0.01, radius=radius, chunk=CHUNK)
    kinds = set()
    while machine._state.phase != "done":
        strategy = next_pilot if machine._state.phase == "pilot" else next_look
        decision = decided(strategy, machine._state)
        kinds.add(type(decision))
        query = machine.next()
        if isinstance(decision, Ask):
            assert query == decision.query
        if query is not None:
            machine.observe(query, random.multinomial(query.count, rates[query.level]).tolist())
    assert kinds == {Ask, Plan, Stop}
