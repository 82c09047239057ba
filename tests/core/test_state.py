"""What a certifier remembers: through JSON and back, and what it knows about its draws."""

from __future__ import annotations

import json

import pytest

from certify.service.core import Certifier, ProtocolError, Query
from certify.service.core.bounds import floor_radius
from certify.service.core.state import State
from tests.core.states import ALPHA, LOOKS, PILOT, estimating, piloted

STATES = {
    "nothing drawn": lambda: piloted(None, None, None),
    "a pilot drawn": lambda: piloted(None, (90, 4, 2), radius=0.123456789),
    "frozen": lambda: estimating(None, None, path=1, final="plurality"),
    "looks taken": lambda: estimating(None, (50, 10, 4), (200, 50, 6), path=0, radius=0.1),
}


@pytest.mark.parametrize("make", STATES.values(), ids=STATES)
def test_a_state_comes_back_from_json_as_it_was(make):
    state = make()
    for pending in (None, Query(level=0, purpose="estimation", first=0, count=64)):
        state.pending = pending
        back = State.from_dict(json.loads(json.dumps(state.as_dict())))
        assert back == state
        assert all(type(look) is type(LOOKS[0]) for level in back.levels for look in level.looks)
        assert Certifier.from_state(state.as_dict()).result() == Certifier.from_state(back.as_dict()).result()


@pytest.mark.parametrize("make", STATES.values(), ids=STATES)
def test_a_copy_shares_nothing_with_the_state(make):
    state, untouched = make(), make()
    copy = state.as_dict()
    other = State.from_dict(copy)
    copy["levels"][0]["votes"][0] += 1
    other.levels[0].add_pilot((1, 2, 3))
    other.pending = Query(level=0, purpose="pilot", first=0, count=PILOT)
    assert state == untouched


def test_draws_are_counted_with_the_pilots():
    state = estimating(None, (50, 10, 4), path=0, samples=1_000)
    assert (state.used, state.remaining) == (2 * PILOT + 64, 1_000 - 2 * PILOT - 64)


def test_a_target_is_cut_to_the_requested_radius_and_there_is_none_without():
    assert piloted(None).target == 0.0
    state = piloted(None, radius=0.3)
    assert floor_radius(state.target) == 0.3 < state.target


def test_before_the_plan_there_is_no_label():
    with pytest.raises(ProtocolError, match="phase 'pilot': no label has been chosen"):
        _ = piloted((96, 0, 0)).chosen
    assert estimating(None, path=0).chosen == (0, 0)


def test_a_level_knows_which_looks_a_budget_completes():
    level = estimating((50, 10, 4), path=0).levels[0]
    assert (level.taken, level.heavy) == (1, 1)
    assert [level.cost(i) for i in (1, 2)] == [256 - 64, 384 - 64]
    assert [level.affordable(budget) for budget in (191, 192, 320)] == [None, 1, 2]


def test_a_level_keeps_its_two_streams_apart():
    level = estimating((10, 50, 4), path=0, pilots=[(90, 4, 2)]).levels[0]
    assert (level.split(0), level.split(0, pilot=True)) == ((10, 50), (90, 4))
    assert level.leader() == 1  # of the estimation draws, once there are any
    assert level.estimate(0).n == PILOT + 64  # a choice may use both


def test_the_looks_of_a_level_spend_its_part_of_alpha():
    state = estimating(None, None, path=1)
    for level, (lower, upper) in zip(state.levels, state.cascade.error_split(state.weights), strict=True):
        assert sum(low for low, _ in level.errors) == pytest.approx(ALPHA * lower)
        assert sum(up for _, up in level.errors) == pytest.approx(ALPHA * upper)
