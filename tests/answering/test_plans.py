from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.service.answering.plans import Plan, largest_radius, linf_of, make_plan, plan_made, round_down
from certify.service.answering.schemas import CertifyFields
from certify.service.backends.fake import FAKE_INFO
from certify.service.errors import RequestError


def plan(**fields: object) -> Plan:
    return make_plan(CertifyFields.model_validate(fields), FAKE_INFO, max_samples_allowed=100_000)


def refusal(**fields: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        plan(**fields)
    return caught.value


def test_defaults_are_the_bundles() -> None:
    made = plan()
    assert (made.sigmas, made.cascade.thresholds, made.cascade.final) == (
        FAKE_INFO.sigmas,
        FAKE_INFO.thresholds,
        FAKE_INFO.final,
    )
    assert made.samples == 9984  # 10,000 in whole chunks of 32
    assert made.target is None


def test_thresholds_follow_the_sigmas_as_the_request_orders_them() -> None:
    made = plan(sigmas=[1.0, 0.25], threshold=[0.7, 0.6])
    assert (made.sigmas, made.cascade.thresholds) == ((0.25, 1.0), (0.5, 0.7))
    assert plan(threshold=[0.6, 0.7, 0.8]).cascade.thresholds == (0.5, 0.7, 0.8)  # by plurality the finest has none
    assert plan(threshold=[0.6], final="threshold").cascade.thresholds == (0.6, 0.6, 0.6)


def test_unknown_and_doubled_sigmas_and_too_many_thresholds_are_refused() -> None:
    assert refusal(sigmas=[0.3]).code == "unknown_sigma"
    assert refusal(sigmas=[0.3]).extra == {"field": "sigmas", "sigmas": [0.25, 0.5, 1.0]}
    assert refusal(sigmas=[0.5, 0.5]).code == "out_of_range"
    assert refusal(threshold=[0.5, 0.5]).code == "out_of_range"
    assert refusal(sigmas=[0.5], threshold=[0.5, 0.5, 0.5]).code == "out_of_range"


def test_the_servers_cap_is_named() -> None:
    error = refusal(samples=100_001)
    assert (error.code, error.extra) == ("out_of_range", {"field": "samples", "max_samples": 100_000})
    assert plan(samples=100_000).samples == 100_000


def test_the_smallest_budget_in_the_hint_is_accepted_and_one_less_is_not() -> None:
    for fields in ({}, {"sigmas": [0.5]}, {"alpha": 1e-9}, {"threshold": [0.9], "final": "threshold"}):
        error = refusal(samples=1, **fields)
        assert error.code == "budget_too_small"
        smallest = error.extra["min_samples"]
        assert isinstance(smallest, int)
        assert plan(samples=smallest, **fields).samples == smallest
        assert refusal(samples=smallest - 1, **fields).code == "budget_too_small"


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_largest_radius_in_the_hint_is_accepted_and_more_is_not(norm: str) -> None:
    for fields in ({}, {"sigmas": [0.5]}, {"alpha": 1e-9, "samples": 1000}):
        error = refusal(radius=1e9, norm=norm, **fields)
        assert error.code == "radius_unreachable"
        largest = error.extra["max_radius"]
        assert isinstance(largest, float)
        assert plan(radius=largest, norm=norm, **fields).radius == largest
        assert refusal(radius=math.nextafter(largest, 9), norm=norm, **fields).code == "radius_unreachable"


@pytest.mark.parametrize("radius", [1e300, 1.7e308, 10**9 + 1.0])
def test_a_huge_radius_is_unreachable_not_a_fault(radius: float) -> None:
    assert refusal(radius=radius).code == "radius_unreachable"
    assert refusal(radius=radius, norm="linf").code == "radius_unreachable"


def test_a_threshold_that_float64_cannot_tell_from_one_is_refused() -> None:
    # The bounds are rounded outward by 1e-11, so no number of samples passes this threshold.
    error = refusal(threshold=[1 - 2**-53], sigmas=[0.5], final="threshold")
    assert error.code in ("out_of_range", "budget_too_small")


@settings(deadline=None, derandomize=True)
@given(st.floats(min_value=5e-324, max_value=0.39), st.sampled_from(["l2", "linf"]))
def test_meeting_the_target_always_prints_at_least_the_requested_radius(radius: float, norm: str) -> None:
    made = plan(radius=radius, norm=norm)
    assert made.target is not None
    printed = made.target if norm == "l2" else linf_of(made.target, made.dimension)
    assert printed >= radius
    # ... and asks for little more than was requested.
    assert made.target <= radius * (1.0 if norm == "l2" else 8.0) + 1e-5


@settings(deadline=None, derandomize=True)
@given(st.floats(min_value=0.0, max_value=1e6), st.integers(1, 200_000))
def test_rounding_never_rounds_up(value: float, dimension: int) -> None:
    assert Decimal(round_down(value)) <= Decimal(repr(value)) + Decimal("1e-15")
    assert round_down(value) <= value
    assert Decimal(repr(linf_of(value, dimension))) ** 2 * dimension <= Decimal(repr(value)) ** 2


@pytest.mark.parametrize("value", [0.542185, 0.1, 0.3, 1.0, 2.418301, 0.000001])
def test_a_radius_on_the_grid_stays_what_it_is(value: float) -> None:
    assert round_down(value) == value


def test_rounding_down_keeps_six_decimals_and_no_sign() -> None:
    assert round_down(0.5848999) == 0.584899
    assert round_down(-0.2) == 0.0
    assert linf_of(0.542185, 64) == 0.067773


def test_the_largest_radius_grows_with_the_budget() -> None:
    assert largest_radius(plan(samples=1000)) < largest_radius(plan(samples=100_000))


def test_a_plan_is_made_once_for_all_that_it_depends_on() -> None:
    fields = CertifyFields(radius=0.25, threshold=[0.501])
    assert not plan_made(fields, FAKE_INFO, max_samples_allowed=100_000)
    made = make_plan(fields, FAKE_INFO, max_samples_allowed=100_000)
    assert plan_made(fields, FAKE_INFO, max_samples_allowed=100_000)
    assert make_plan(fields.model_copy(update={"resize": True}), FAKE_INFO, max_samples_allowed=100_000) is made
    others: list[dict[str, object]] = [
        {"radius": 0.26}, {"radius": None}, {"norm": "linf"}, {"samples": 9_000}, {"alpha": 0.002},
        {"threshold": [0.502]}, {"final": "threshold"}, {"sigmas": [0.25, 0.5]},
    ]  # fmt: skip
    for changed in others:
        other = fields.model_copy(update=changed)
        assert not plan_made(other, FAKE_INFO, max_samples_allowed=100_000), changed
    assert not plan_made(fields, replace(FAKE_INFO, chunk=16), max_samples_allowed=100_000)
    assert not plan_made(fields, FAKE_INFO, max_samples_allowed=99_999)
