"""Clopper-Pearson bounds: exact values, the safe side, edges."""

import json
import math
from decimal import Decimal

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.service.core import clopper_pearson_lower, clopper_pearson_upper, floor_radius
from certify.service.core.bounds import normal_cdf, normal_quantile
from tests.core.oracle import GOLDEN

CASES = json.loads((GOLDEN / "statistics.json").read_text())
TOLERANCE = Decimal("1e-9")


@pytest.mark.parametrize("case", CASES["clopper_pearson_lower"], ids=lambda c: f"{c['k']}of{c['n']}@{c['alpha']}")
def test_lower_bound_is_never_above_the_exact_value(case):
    exact = Decimal(case["value"])
    bound = Decimal(clopper_pearson_lower(case["k"], case["n"], float(case["alpha"])))
    assert exact - TOLERANCE <= bound <= exact


@pytest.mark.parametrize("case", CASES["clopper_pearson_upper"], ids=lambda c: f"{c['k']}of{c['n']}@{c['alpha']}")
def test_upper_bound_is_never_below_the_exact_value(case):
    exact = Decimal(case["value"])
    bound = Decimal(clopper_pearson_upper(case["k"], case["n"], float(case["alpha"])))
    assert exact <= bound <= exact + TOLERANCE


@pytest.mark.parametrize("case", CASES["single_scale_radius"], ids=lambda c: f"{c['k']}of{c['n']}s{c['sigma']}")
def test_single_scale_radius_is_never_above_the_exact_value(case):
    lower = clopper_pearson_lower(case["k"], case["n"], float(case["alpha"]))
    p0 = float(case["p0"])
    assert (lower > p0) == (case["decision"] == "certify")
    if case["decision"] == "certify":
        exact = Decimal(case["radius"])
        radius = Decimal(floor_radius(float(case["sigma"]) * (normal_quantile(lower) - normal_quantile(p0))))
        assert exact - Decimal("5e-6") <= radius <= exact


def _tail(k: int, n: int, p: mpmath.mpf) -> mpmath.mpf:
    """P[Bin(n, p) >= k], summed term by term: nothing in common with the inverse incomplete beta."""
    return mpmath.fsum(mpmath.binomial(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


counts = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
alphas = st.floats(1e-12, 0.3)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(counts, alphas)
def test_a_probability_at_the_lower_bound_has_a_tail_of_at_most_alpha(count, alpha):
    k, n = count
    bound = clopper_pearson_lower(k, n, alpha)
    with mpmath.workdps(60):
        tail = _tail(k, n, mpmath.mpf(bound))
        assert k == 0 or tail <= mpmath.mpf(alpha)
        assert k == 0 or _tail(k, n, mpmath.mpf(bound + 1e-9)) > alpha


@settings(max_examples=150, deadline=None, derandomize=True)
@given(counts, alphas)
def test_lower_and_upper_mirror_each_other(count, alpha):
    k, n = count
    assert clopper_pearson_upper(k, n, alpha) == pytest.approx(1 - clopper_pearson_lower(n - k, n, alpha), abs=3e-11)


def test_unanimous_counts_have_their_closed_form():
    # 0.001 ** (1 / 10_000), by hand: exp(-6.907755 / 10_000) = 0.9993095
    assert clopper_pearson_lower(10_000, 10_000, 0.001) == pytest.approx(0.99930946, abs=1e-8)
    assert clopper_pearson_upper(0, 10_000, 0.001) == pytest.approx(1 - 0.99930946, abs=1e-8)


def test_no_draws_and_no_error_give_trivial_bounds():
    assert (clopper_pearson_lower(0, 0, 0.1), clopper_pearson_upper(0, 0, 0.1)) == (0.0, 1.0)
    assert (clopper_pearson_lower(9, 10, 0.0), clopper_pearson_upper(1, 10, 0.0)) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n", "alpha"), [(-1, 5, 0.1), (6, 5, 0.1), (1, 5, 1.0), (1, 5, -0.1), (1, 5, math.nan)])
def test_impossible_arguments_are_refused(k, n, alpha):
    for bound in (clopper_pearson_lower, clopper_pearson_upper):
        with pytest.raises(ValueError, match="expected"):
            bound(k, n, alpha)


def test_fractional_counts_are_refused():
    with pytest.raises(TypeError):
        clopper_pearson_lower(1.5, 5, 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("radius", [0.5, 1.2345678, 3.0, 2.9999999999])
def test_a_radius_is_cut_to_six_digits_and_never_up(radius):
    assert radius - 1.1e-6 < floor_radius(radius) < radius


@pytest.mark.parametrize("radius", [0.0, -1.0, 1e-7])
def test_what_is_not_a_positive_radius_is_zero(radius):
    assert floor_radius(radius) == 0.0


def test_the_median_is_exactly_zero():
    assert normal_quantile(0.5) == 0.0
    assert normal_quantile(normal_cdf(1.25)) == pytest.approx(1.25, abs=1e-12)
    assert normal_quantile(0.0) == -math.inf
