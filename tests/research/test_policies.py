"""Policies against hand-worked certificates, against each other, and the new one against its own promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from certify.service.core import Cascade
from certify.service.research.policies import best, first, max_radius, reference, single

ALPHA = 1e-3


def lower(successes: int, trials: int, alpha: float) -> float:
    return float(stats.beta.ppf(alpha, successes, trials - successes + 1)) if successes else 0.0


def upper(successes: int, trials: int, alpha: float) -> float:
    return float(stats.beta.isf(alpha, successes + 1, trials - successes)) if successes < trials else 1.0


def z(p: float) -> float:
    return float(stats.norm.ppf(p))


def test_reference_by_hand_when_the_second_stage_decides() -> None:
    cascade = Cascade.of((0.25, 0.5), 0.5, "threshold")
    counts = np.array([[950, 30, 20], [400, 350, 250]])
    outcome = reference(counts, counts, cascade, ALPHA)
    own = 0.25 * z(lower(950, 1000, ALPHA / 2))
    shield = -0.5 * z(upper(350, 1000, ALPHA))
    assert (outcome.label, outcome.level, outcome.visited) == (0, 0, 2)
    assert outcome.radius == pytest.approx(min(own, shield), abs=2e-6)
    assert outcome.radius <= min(own, shield)


def test_reference_abstains_where_a_stage_is_undecided_though_a_finer_one_is_sure() -> None:
    cascade = Cascade.of((0.25, 0.5), 0.5, "threshold")
    counts = np.array([[1000, 0, 0], [505, 495, 0]])
    outcome = reference(counts, counts, cascade, ALPHA)
    assert (outcome.label, outcome.radius, outcome.visited) == (None, 0.0, 1)


def test_first_takes_the_deciding_level_and_best_the_better_path() -> None:
    cascade = Cascade.of((0.25, 0.5), 0.5, "threshold")
    counts = np.array([[9990, 10], [5400, 4600]])  # the coarse level decides narrowly, and keeps the rival down
    weights = [0.9, 0.1]
    one, other = first(counts, 0, cascade, ALPHA, weights), best(counts, 0, cascade, ALPHA, weights)
    assert (one.level, other.level) == (1, 0)
    assert one.radius == pytest.approx(0.5 * z(lower(5400, 10_000, 0.1 * ALPHA)), abs=2e-6)
    shield = -0.5 * z(min(upper(4600, 10_000, 0.9 * ALPHA), 1 - lower(5400, 10_000, 0.1 * ALPHA)))
    assert other.radius == pytest.approx(min(0.25 * z(lower(9990, 10_000, 0.9 * ALPHA)), shield), abs=2e-6)


def test_best_is_never_below_first() -> None:
    random = np.random.default_rng(0)
    for final in ("threshold", "plurality"):
        cascade = Cascade.of((0.25, 0.5, 1.0), (0.5, 0.6, 0.5), final)
        certified = 0
        for _ in range(300):
            p = random.dirichlet([3, 0.5, 0.5], size=3)
            counts = np.array([random.multinomial(1000, row) for row in p])
            weights = random.dirichlet([1, 1, 1])
            one, other = (policy(counts, 0, cascade, ALPHA, weights) for policy in (first, best))
            assert other.radius >= one.radius
            certified += one.radius > 0
        assert certified > 50


def test_single_by_hand() -> None:
    row = np.array([900, 80, 20])
    sure = single(row, row, 0.5, ALPHA, "threshold")
    assert sure.radius == pytest.approx(0.5 * z(lower(900, 1000, ALPHA)), abs=2e-6)
    gap = 0.5 / 2 * (z(lower(900, 1000, ALPHA / 2)) - z(upper(80, 1000, ALPHA / 2)))
    assert single(row, row, 0.5, ALPHA, "plurality").radius == pytest.approx(gap, abs=2e-6)
    assert single(row, np.array([0, 1, 0]), 0.5, ALPHA, "threshold").label is None


def test_max_radius_by_hand() -> None:
    counts = np.array([[990, 10, 0], [700, 250, 50]])
    outcome = max_radius(counts, 0, (0.25, 1.0), ALPHA, [0.5, 0.5])
    half = ALPHA / 2
    own = [s * z(lower(int(n), 1000, half / 2)) for s, n in ((0.25, 990), (1.0, 700))]
    rivals = [s * z(upper(int(n), 1000, half)) for s, n in ((0.25, 10), (1.0, 250))]
    assert outcome.radius == pytest.approx((max(own) - max(rivals)) / 2, abs=2e-6)
    assert outcome.level == int(np.argmax(own))


@pytest.mark.slow
def test_max_radius_fails_no_more_often_than_alpha() -> None:
    """At a tight alpha, where two scales' terms are equal: the worst case for a bound on their maximum."""
    random, alpha, runs = np.random.default_rng(1), 0.1, 4000
    sigmas = (0.5, 1.0)
    at = stats.norm.cdf(np.array([0.5 / 0.5, 0.5 / 1.0]))  # sigma * z = .5 at both
    p = np.array([[at[0], 1 - at[0]], [at[1], 1 - at[1]]])
    true = (0.5 - max(s * z(1 - q) for s, q in zip(sigmas, at, strict=True))) / 2
    failures = 0
    for _ in range(runs):
        counts = np.array([random.multinomial(200, row) for row in p])
        failures += max_radius(counts, 0, sigmas, alpha, [0.5, 0.5]).radius > true
    assert failures / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
