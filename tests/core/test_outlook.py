"""What may be asked next: a guess that changes nothing, is affordable, and is mostly right."""

from __future__ import annotations

import json

import numpy as np
import pytest

from certify.models.bundle import Final
from certify.models.noises import NoiseKind
from certify.service.core import Cascade, Certifier, Query
from certify.service.core.laws import Noise

RATES = np.array([[0.95, 0.04, 0.01], [0.85, 0.1, 0.05], [0.6, 0.3, 0.1]])


@pytest.mark.parametrize("radius", [None, 0.1, 0.3])
@pytest.mark.parametrize("final", ["threshold", "plurality"])
def test_most_of_what_is_asked_was_to_be_expected(radius: float | None, final: Final) -> None:
    random = np.random.default_rng(7)
    asked = expected = 0
    for _ in range(20):
        certifier = Certifier(Cascade.of((0.25, 0.5, 1.0), 0.5, final), 3, radius=radius, chunk=8, grain=32)
        assert certifier.outlook() == []  # nothing is asked yet
        outlook: list[Query] = []
        drawn = dict.fromkeys([(k, purpose) for k in range(3) for purpose in ("pilot", "estimation")], 0)
        while (query := certifier.next()) is not None:
            asked += 1
            expected += any((q.level, q.purpose, q.first) == (query.level, query.purpose, query.first) for q in outlook)
            drawn[query.level, query.purpose] += query.count
            before = json.dumps(certifier.state())
            outlook = certifier.outlook()
            assert json.dumps(certifier.state()) == before
            assert all(q.first == drawn[q.level, q.purpose] for q in outlook)
            assert sum(q.count for q in outlook) <= 10_000 - certifier.used - query.count
            certifier.observe(query, random.multinomial(query.count, RATES[query.level]).tolist())
        assert certifier.outlook() == []
    assert expected > 0.6 * (asked - 20)  # an answer's first query can be expected by nobody


@pytest.mark.parametrize("kind", ["gaussian", "laplace", "uniform"])
def test_whatever_the_votes_there_is_a_guess(kind: NoiseKind) -> None:
    random, looks = np.random.default_rng(11), 0
    for _ in range(60):
        sigmas = sorted(random.choice([0.05, 0.12, 0.25, 0.5, 1.0, 2.0], 3, replace=False).tolist())
        thresholds = random.choice([0.5, 0.75, 0.99], 3).tolist()
        cascade = Cascade.of(sigmas, thresholds, noise=[Noise(kind, sigma) for sigma in sigmas])
        certifier = Certifier(cascade, 4, samples=3_000, radius=random.choice([0.1, 0.25]), chunk=8, pilot=32)
        rates = random.dirichlet(np.full(4, random.choice([0.2, 5.0])), 3)  # clear votes, and even ones
        while (query := certifier.next()) is not None:
            certifier.outlook()
            certifier.observe(query, random.multinomial(query.count, rates[query.level]).tolist())
            looks += 1
    assert looks > 180


def test_the_other_pilots_are_expected_first() -> None:
    certifier = Certifier(Cascade.of((0.25, 0.5, 1.0)), 3, chunk=8, pilot=64)
    assert certifier.next() == Query(level=2, purpose="pilot", first=0, count=64)
    assert certifier.outlook()[:2] == [Query(level=k, purpose="pilot", first=0, count=64) for k in (1, 0)]


def test_where_the_pilots_will_probably_end_no_other_is_expected_first() -> None:
    def after_the_coarsest(votes: tuple[int, int]) -> list[tuple[int, str]]:
        cascade = Cascade.of((0.12, 0.25, 0.5), (0.5, 0.5, 0.99))
        certifier = Certifier(cascade, 2, chunk=8, pilot=64, radius=0.25)
        assert (query := certifier.next()) is not None and query.level == 2
        certifier.observe(query, votes)
        assert (query := certifier.next()) is not None and (query.level, query.purpose) == (1, "pilot")
        return [(each.level, each.purpose) for each in certifier.outlook()]

    assert after_the_coarsest((58, 6)) == [(1, "estimation"), (2, "estimation"), (0, "pilot")]
    assert after_the_coarsest((34, 30))[0] == (0, "pilot")


def test_what_the_budget_does_not_pay_for_is_not_expected() -> None:
    certifier = Certifier(Cascade.of((0.25, 0.5)), 2, samples=136, chunk=8, pilot=64)
    assert certifier.next() is not None
    assert [(q.level, q.purpose, q.count) for q in certifier.outlook()] == [(0, "pilot", 64), (1, "estimation", 8)]


def test_behind_a_levels_last_look_nothing_more_is_expected_there() -> None:
    certifier = Certifier(Cascade.of((0.25,)), 2, samples=72, chunk=8, pilot=32, radius=0.01)
    queries = []
    while (query := certifier.next()) is not None:
        queries.append((query, certifier.outlook()))
        votes = query.count * 13 // 16  # enough at the last look, and not before
        certifier.observe(query, (votes, query.count - votes))
    last, expected = queries[-1]
    assert last.first + last.count == 40 and expected == []


def test_where_the_pending_look_will_do_nothing_is_expected_after_it() -> None:
    certifier = Certifier(Cascade.of((0.25,)), 2, chunk=8, pilot=64, radius=0.1)
    expected = {}
    while (query := certifier.next()) is not None:
        expected[query] = certifier.outlook()
        certifier.observe(query, (query.count, 0))
    *_, last = expected
    assert last.purpose == "estimation" and expected[last] == []


def test_where_the_pending_look_will_not_do_the_next_is_expected() -> None:
    certifier = Certifier(Cascade.of((0.25,)), 2, chunk=8, pilot=64, radius=0.4)
    while (query := certifier.next()) is not None and query.purpose == "pilot":
        certifier.observe(query, (query.count, 0))
    assert query is not None
    assert [each.first for each in certifier.outlook()] == [query.count]
