"""The state machine: its protocol, its budget, its state, and what it is exactly for one scale and one look."""

import copy
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from certify.service import core
from certify.service.core import Cascade, Certifier, ProtocolError, Query, Reason
from tests.core.oracle import run

SIGMAS = [0.25, 0.5, 1.0]
EASY = np.array([[0.97, 0.02, 0.01], [0.93, 0.05, 0.02], [0.8, 0.15, 0.05]])


def certifier(**changes) -> Certifier:
    arguments = {"sigmas": SIGMAS, "classes": 3, "alpha": 0.01, "samples": 3_000, "chunk": 32} | changes
    rule = {name: arguments.pop(name) for name in ("sigmas", "threshold", "final") if name in arguments}
    return Certifier(Cascade.of(**rule), arguments.pop("classes"), **arguments)


def votes(query: Query, seed: int = 0, p: np.ndarray = EASY) -> list[int]:
    rng = np.random.default_rng([seed, query.level, query.first, query.purpose == "pilot"])
    return rng.multinomial(query.count, p[query.level]).tolist()


@pytest.mark.parametrize("radius", [None, 0.3])
@pytest.mark.parametrize("final", ["threshold", "plurality"])
def test_an_easy_image_is_certified(radius, final):
    result = run(certifier(radius=radius, final=final), EASY, np.random.default_rng(1))
    assert (result.label, result.reason, result.complete) == (0, Reason.CERTIFIED, True)
    assert result.radius >= (radius or 0.4)
    if radius is not None:
        assert result.samples_used < 1_500  # stops as soon as the answer is known


def test_every_next_is_the_same_until_it_is_observed():
    machine = certifier()
    first = machine.next()
    assert machine.next() == first
    machine.observe(first, votes(first))
    assert machine.next() != first


def _bad_counts(query: Query):
    half = query.count // 2
    yield query, [query.count + 1, 0, 0], "total"
    yield query, [query.count + 1, -1, 0], ">= 0"
    yield query, [query.count, 0], "classes"
    yield query, [half + 0.5, half - 0.5, 0], "integers"
    yield Query(level=query.level, purpose=query.purpose, first=query.first + 32, count=query.count), None, "expected"
    yield Query(level=(query.level + 1) % 3, purpose=query.purpose, first=query.first, count=query.count), None, "exp"
    fewer = query.count - 32
    yield Query(level=query.level, purpose=query.purpose, first=query.first, count=fewer), [fewer, 0, 0], "expected"
    other = "pilot" if query.purpose == "estimation" else "estimation"
    yield Query(level=query.level, purpose=other, first=query.first, count=query.count), None, "expected"


@pytest.mark.parametrize("radius", [None, 0.3])
def test_observe_refuses_what_cannot_be_and_changes_nothing(radius):
    machine = certifier(radius=radius)
    while (query := machine.next()) is not None:
        before = machine.state()
        for wrong, counts, message in _bad_counts(query):
            with pytest.raises(ProtocolError, match=message):
                machine.observe(wrong, counts or [query.count, 0, 0])
            assert machine.state() == before
        machine.observe(query, votes(query))
        with pytest.raises(ProtocolError, match="no query is pending"):
            machine.observe(query, votes(query))
    before = machine.state()
    with pytest.raises(ProtocolError, match="done"):
        machine.observe(Query(level=0, purpose="pilot", first=0, count=32), [32, 0, 0])
    assert machine.state() == before


@pytest.mark.parametrize("radius", [None, 0.3])
def test_an_answer_before_its_question_is_out_of_turn_and_changes_nothing(radius):
    machine, ahead = certifier(radius=radius), certifier(radius=radius)
    while (query := ahead.next()) is not None:
        before = machine.state()
        with pytest.raises(ProtocolError, match=f"in state '{before['phase']}': no query is pending"):
            machine.observe(query, votes(query))
        assert machine.state() == before
        assert machine.next() == query
        for each in (machine, ahead):
            each.observe(query, votes(query))


@pytest.mark.parametrize("radius", [None, 0.3])
def test_state_survives_json_at_every_step_and_goes_on_alike(radius):
    machine = certifier(radius=radius)
    while True:
        resumed = Certifier.from_state(json.loads(json.dumps(machine.state())))
        assert resumed.state() == machine.state()
        assert resumed.result() == machine.result()
        query = machine.next()
        assert resumed.next() == query
        if query is None:
            break
        waiting = Certifier.from_state(json.loads(json.dumps(machine.state())))  # a query pending
        for m in (machine, resumed, waiting):
            m.observe(query, votes(query))
        assert resumed.state() == waiting.state() == machine.state()


probabilities = st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    matrix=st.lists(probabilities, min_size=3, max_size=3),
    levels=st.integers(1, 3),
    samples=st.integers(400, 20_000),
    chunk=st.sampled_from([1, 7, 32]),
    grain=st.sampled_from([1, 2, 8]),
    radius=st.none() | st.floats(0.01, 3.0),
    final=st.sampled_from(["threshold", "plurality"]),
    thresholds=st.lists(st.floats(0.5, 0.99), min_size=3, max_size=3),
    alpha=st.floats(1e-9, 0.1),
    seed=st.integers(0, 2**32),
)
def test_rules_hold_for_any_votes(matrix, levels, samples, chunk, grain, radius, final, thresholds, alpha, seed):
    """Rules 2, 3 and 5: the plan is frozen, looks are exact prefixes and paid for, the budget is never exceeded."""
    p = np.array(matrix)[:levels]
    p /= p.sum(axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    machine = Certifier(
        Cascade.of(SIGMAS[:levels], thresholds[:levels], final),
        3,
        alpha=alpha,
        samples=samples,
        radius=radius,
        chunk=chunk,
        grain=grain * chunk,
    )
    drawn = {(k, purpose): 0 for k in range(levels) for purpose in ("pilot", "estimation")}
    frozen = None
    last_radius = 0.0
    while (query := machine.next()) is not None:
        assert query.count > 0 and query.count % chunk == 0 and query.first % chunk == 0
        assert query.first == drawn[query.level, query.purpose]
        drawn[query.level, query.purpose] += query.count
        assert machine.used + query.count == sum(drawn.values()) <= samples
        plan = (machine.label, machine.weights, [(v.looks, v.errors) for v in machine._state.levels])
        if query.purpose == "estimation":
            frozen = frozen or copy.deepcopy(plan)
            assert plan == frozen
        machine.observe(query, rng.multinomial(query.count, p[query.level]).tolist())
        result = machine.result()
        assert result.radius >= last_radius  # running bounds only tighten
        last_radius = result.radius
    assert machine.result().samples_used == sum(drawn.values())
    if frozen is None:
        return
    for level, (share_lower, share_upper) in zip(
        machine._state.levels, machine._state.cascade.error_split(machine.weights), strict=True
    ):
        assert all(a.samples < b.samples for a, b in itertools.pairwise(level.looks))
        assert all(look.samples % (grain * chunk) == 0 for look in level.looks)
        assert sum(low for low, _ in level.errors) <= alpha * share_lower * (1 + 1e-12)
        assert sum(up for _, up in level.errors) <= alpha * share_upper * (1 + 1e-12)


def test_bounds_come_from_estimation_draws_alone():
    """Two runs whose pilots differ but lead to the same plan have the same bounds."""
    results = []
    for pilot in ([126, 1, 1], [127, 1, 0]):
        machine = certifier(sigmas=[0.5], single_look=True)
        query = machine.next()
        machine.observe(query, pilot)
        query = machine.next()
        machine.observe(query, [query.count - 100, 60, 40])
        results.append(machine.result().stages[0])
    assert (results[0].p_lower, results[0].p_rival_upper) == (results[1].p_lower, results[1].p_rival_upper)


@pytest.mark.parametrize("count", [5_000, 5_100, 5_300, 9_900, 10_000])
def test_one_scale_and_one_look_is_cohen_certify(count):
    """Cohen et al. (2019), CERTIFY with N0 = 100 and N = 10,000."""
    machine = Certifier(Cascade.of([0.5], final="threshold"), 10, samples=10_100, pilot=100, single_look=True)
    pilot = machine.next()
    assert pilot == Query(level=0, purpose="pilot", first=0, count=machine.pilot)
    assert machine.pilot == 100
    machine.observe(pilot, [0, 0, 0, 60, 40, 0, 0, 0, 0, 0])
    query = machine.next()
    assert query == Query(level=0, purpose="estimation", first=0, count=10_000)
    machine.observe(query, [0, 0, 0, count, 10_000 - count, 0, 0, 0, 0, 0])
    assert machine.next() is None
    lower = binomtest(count, 10_000, alternative="greater").proportion_ci(0.999, method="exact").low
    result = machine.result()
    if lower > 0.5:
        assert result.label == 3
        assert result.stages[0].p_lower == pytest.approx(lower, abs=1e-9)
    else:
        assert (result.label, result.radius) == (None, 0.0)


def exact_failure(machinery=core) -> float:
    """P[a certificate is issued] at K = 1, two classes of 1/2, n0 = n = 100, alpha = .1: R* = 0, so each one is wrong.

    Summed over all pilot and estimation counts: exact, nothing is drawn.
    """
    total = 0.0
    mass = binom.pmf(np.arange(101), 100, 0.5)
    for pilot_count in range(20, 81):  # the rest of the mass is below 1e-9
        for count in range(20, 81):
            cascade = machinery.Cascade.of([1.0], final="threshold")
            machine = machinery.Certifier(cascade, 2, alpha=0.1, samples=200, pilot=100, single_look=True)
            machine.observe(machine.next(), [pilot_count, 100 - pilot_count])
            machine.observe(machine.next(), [count, 100 - count])
            if machine.result().label is not None:
                total += mass[pilot_count] * mass[count]
    return total


def test_fresh_draws_keep_alpha_exactly():
    assert exact_failure() == pytest.approx(0.0967, abs=5e-5)


def test_a_rival_at_a_coarser_scale_is_named():
    p = np.array([[0.99, 0.005, 0.005], [0.97, 0.02, 0.01], [0.05, 0.48, 0.47]])
    result = run(certifier(final="threshold"), p, np.random.default_rng(5))
    assert (result.label, result.reason) == (None, Reason.RIVAL_AT_LARGER_SIGMA)


def test_hopeless_votes_end_early_and_say_so():
    p = np.full((3, 3), 1 / 3)
    result = run(certifier(final="threshold"), p, np.random.default_rng(5))
    assert (result.label, result.reason) == (None, Reason.NO_STAGE_CONFIDENT)
    assert result.samples_used < 1_500


def test_before_the_pilot_is_over_there_is_no_data():
    machine = certifier()
    result = machine.result()
    assert (result.label, result.reason, result.complete, result.has_data) == (None, Reason.NO_DATA, False, False)


def test_a_partial_run_is_sound_and_incomplete():
    machine = certifier()
    seen = []
    result = run(machine, EASY, np.random.default_rng(3), watch=seen.append)
    partial = [r for r in seen if r.label is not None and not r.complete]
    assert partial and all(r.radius <= result.radius for r in partial)


def test_no_radius_exceeds_a_bound_on_its_path():
    for seed in range(40):
        result = run(certifier(), EASY, np.random.default_rng(seed))
        assert result.level is not None
        path = [stage for stage in result.stages if stage.level >= result.level]
        assert [s.outcome for s in path] == ["path"] + ["passed"] * (len(path) - 1)
        assert all(result.radius <= stage.radius_bound for stage in path)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"classes": 1}, "classes"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"chunk": 0}, "chunk"),
        ({"radius": 0.0}, "radius"),
        ({"radius": float("inf")}, "radius"),
        ({"pilot": 0}, "pilot"),
        ({"samples": 100}, "samples"),
        ({"threshold": 1.0}, "threshold"),
        ({"sigmas": []}, "sigmas"),
    ],
)
def test_arguments_that_cannot_work_are_refused_by_name(change, name):
    with pytest.raises(ValueError, match=name):
        certifier(**change)
