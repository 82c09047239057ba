"""What a sample of images says of all inputs: hand-worked, exact, and over simulated audits."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.service.core import population as module
from certify.service.core.population import (
    Population,
    by_class,
    images_needed,
    interval,
    lower_bound,
    truly,
    upper_bound,
)
from tests.core.audits import coverage_of_interval, failures_of_audits


def test_forty_three_of_a_hundred_by_hand():
    """Published tables of Clopper and Pearson: 43 of 100 at 95% is .331 to .533."""
    low, high = interval(43, 100, 0.05)
    assert (low, high) == (pytest.approx(0.33139, abs=1e-5), pytest.approx(0.53287, abs=1e-5))


def test_alpha_is_paid_once_and_not_for_each_image():
    """All of 100 at alpha .001, confidence .95: l = .05^(1/100) = .970487; (l - .001)/.999 = .970457."""
    said = Population(images=100, certified=100, alpha=0.001, confidence=0.95)
    assert said.at_least == pytest.approx(0.970457, abs=1e-6)
    assert said.share == 1.0 and math.isnan(Population(images=0, certified=0, alpha=0.1, confidence=0.9).share)


def test_what_a_few_certificates_prove_is_nothing_when_each_may_be_wrong():
    assert Population(images=1000, certified=50, alpha=0.1, confidence=0.9).at_least == 0.0


def test_without_chance_in_a_certificate_the_share_is_the_true_one():
    assert truly(0.25, 0.0) == 0.25


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(0, 1), st.floats(0, 0.5))
def test_the_true_share_is_rounded_down(share, alpha):
    exact = (Fraction(share) - Fraction(alpha)) / (1 - Fraction(alpha))
    assert truly(share, alpha) <= max(exact, 0) <= truly(share, alpha) + 1e-15


def test_the_bounds_are_the_ones_that_certificates_rest_on():
    assert lower_bound(9, 10, 0.05) == pytest.approx(0.6058367, abs=1e-6)
    assert upper_bound(1, 10, 0.05) == pytest.approx(1 - 0.6058367, abs=1e-6)


def test_the_interval_covers_whatever_the_share_is():
    """Exact, over a grid of shares: the error is split between the sides, and nearly all of it is used."""
    assert 0.95 <= coverage_of_interval(module) < 0.975


def test_two_thousand_audits_claim_too_much_in_a_tenth_at_most():
    assert 0.03 < failures_of_audits(module, audits=2_000, error=0.1) <= 0.1


def test_classes_share_the_error_so_that_all_hold_at_once():
    said = by_class({"cat": (40, 50), "dog": (30, 50)}, alpha=0.001, confidence=0.9)
    alone = Population(images=50, certified=40, alpha=0.001, confidence=0.95)
    assert said["cat"].at_least == pytest.approx(alone.at_least) and said["cat"].interval == pytest.approx(
        alone.interval
    )
    assert said["dog"].error == pytest.approx(0.05)


def test_all_classes_hold_at_once_in_nine_of_ten_audits():
    random, wrong = np.random.default_rng(5), 0
    truth = np.array([0.3, 0.6, 0.9])
    for _ in range(1_000):
        counts = {str(i): (int(k), 80) for i, k in enumerate(random.binomial(80, truth))}
        said = by_class(counts, alpha=1e-9, confidence=0.9)
        wrong += any(
            not low <= q <= high for q, (low, high) in zip(truth, (s.interval for s in said.values()), strict=True)
        )
    assert wrong <= 100


@pytest.mark.parametrize(("share", "needed"), [(0.75, 160), (0.70, 640), (0.3, 20)])
def test_images_needed_are_about_what_a_normal_approximation_says(share, needed):
    """At t = .65, error .05: (z / distance)^2 times the variance, without power; within a third."""
    assert images_needed(share, at_least=0.65, alpha=0.001, error=0.05) == pytest.approx(needed / 2.5, rel=0.6)


def test_a_look_at_so_many_images_decides_and_at_one_less_does_not():
    n = images_needed(0.75, at_least=0.65, alpha=0.001, error=0.05)
    assert n is not None
    assert truly(lower_bound(math.floor(0.75 * n), n, 0.05), 0.001) >= 0.65
    assert truly(lower_bound(math.floor(0.75 * (n - 1)), n - 1, 0.05), 0.001) < 0.65


@pytest.mark.parametrize("share", [0.65, 0.65 + 0.0003])
def test_at_the_threshold_no_number_of_images_decides(share):
    assert images_needed(share, at_least=0.65, alpha=0.001, error=0.05) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": math.nan}, "confidence"),
        ({"certified": 11}, "successes"),
        ({"alpha": 1.0}, "alpha"),
        ({"alpha": -0.1}, "alpha"),
        ({"of": 0}, "of"),
    ],
)
def test_what_cannot_be_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Population(**{"images": 10, "certified": 5, "alpha": 0.001, "confidence": 0.9, **change})
