"""One question has one noise stream, however it is spelled: nobody can ask again until a false answer comes."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from certify.service.answering.plans import make_plan
from certify.service.answering.schemas import CertifyFields
from certify.service.answering.seeds import key_from_number
from certify.service.backends.base import BackendInfo
from certify.service.backends.fake import FAKE_INFO
from certify.service.errors import RequestError

KEY, IMAGE = key_from_number(1), bytes(32)


def streams(info: BackendInfo = FAKE_INFO, **fields: Any) -> tuple[int, ...]:
    """The seeds of all streams that the request may draw from."""
    plan = make_plan(CertifyFields(**fields), info, max_samples_allowed=100_000)
    scope = plan.seed_scope(IMAGE, info)
    return tuple(scope.seed(KEY, purpose, sigma) for sigma in plan.sigmas for purpose in ("pilot", "estimation"))


def refusal(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        streams(**fields)
    return caught.value


def test_five_hundred_spellings_of_one_radius_have_one_stream() -> None:
    """Radii between the grid's points, in both norms; a finest threshold that nothing reads; defaults spelled out."""
    radii = [0.25 - i * 1e-8 for i in range(20)]
    asked: list[dict[str, Any]] = [{"radius": radius} for radius in radii]
    asked += [{"radius": radius / 8, "norm": "linf"} for radius in radii]  # sqrt(64) = 8; .03125 is on the grid
    others: list[dict[str, Any]] = [{}, {"samples": 9984}, {"samples": 10_015}, {"sigmas": [1.0, 0.25, 0.5]}]
    finest: list[dict[str, Any]] = [{}, *({"threshold": [t, 0.5, 0.5]} for t in (0.5, 0.6, 0.75, 0.9999))]
    found = {
        streams(**{**spelled, **more, **unread})
        for spelled, more, unread in product(asked, others, finest)
        if not ("sigmas" in more and unread)  # thresholds go with sigmas, in their order
    }
    assert len(asked) * (len(others) * len(finest) - 4) > 500
    assert len(found) == 1


def test_a_request_without_a_radius_has_one_stream_in_any_norm() -> None:
    spellings = [{}, {"norm": "linf"}, {"final": "plurality"}, {"alpha": 0.001}, {"deadline_ms": 5}, {"resize": True}]
    assert len({streams(**fields) for fields in spellings}) == 1


def test_what_means_something_else_has_another_stream() -> None:
    others: list[dict[str, Any]] = [
        {"radius": 0.25}, {"radius": 0.250001}, {"samples": 5000}, {"alpha": 0.002}, {"final": "threshold"},
        {"threshold": [0.5, 0.6, 0.5]}, {"final": "threshold", "threshold": [0.6, 0.5, 0.5]}, {"sigmas": [0.5]},
        {"radius": 0.25, "norm": "linf"},
    ]  # fmt: skip
    found = [streams(**fields) for fields in ({}, *others)]
    assert len({seed for seeds in found for seed in seeds}) == sum(map(len, found))


@pytest.mark.parametrize(
    "change",
    [
        {"grain": 64},
        {"bundle_digest": "sha256:" + "1" * 64},
        *({"runtime": replace(FAKE_INFO.runtime, **{n: "other"})} for n in ("generator", "device", "engine", "dtype")),
    ],
    ids=str,
)
def test_servers_that_differ_never_share_a_stream(change: dict[str, Any]) -> None:
    other = replace(FAKE_INFO, **change)
    for fields in ({}, {"radius": 0.25}, {"samples": 640, "alpha": 0.1}):
        assert not set(streams(**fields)) & set(streams(other, **fields))


@pytest.mark.parametrize(
    ("alpha", "near"),
    [
        (math.nextafter(0.001, 1), "0.001 or 0.0011"),
        (math.nextafter(0.05, 0), "0.049 or 0.05"),
        (0.00123, "0.0012 or 0.0013"),
        (1.05e-9, "1e-09 or 1.1e-09"),
        (0.0999, "0.099 or 0.1"),
    ],
)
def test_an_alpha_of_more_than_two_digits_is_refused(alpha: float, near: str) -> None:
    error = refusal(alpha=alpha)
    assert (error.code, error.extra) == ("out_of_range", {"field": "alpha"})
    assert str(error) == f"alpha: expected at most two significant digits, such as {near}, got {alpha}"


@pytest.mark.parametrize("alpha", [0.1, 0.001, 0.0025, 1e-9, 9.9e-5, 0.05])
def test_an_alpha_of_two_digits_is_taken(alpha: float) -> None:
    streams(alpha=alpha, samples=100_000)


@pytest.mark.parametrize(
    ("threshold", "near"),
    [
        (math.nextafter(0.6, 1), "0.6 or 0.6001"),
        (0.54321, "0.5432 or 0.5433"),
        (0.99995, "0.9999"),
    ],
)
def test_a_threshold_of_more_than_four_decimals_is_refused(threshold: float, near: str) -> None:
    error = refusal(threshold=[0.5, threshold, 0.5])
    assert (error.code, error.extra) == ("out_of_range", {"field": "threshold"})
    assert str(error) == f"threshold: expected at most four decimals, such as {near}, got {threshold}"


def test_a_bundles_own_threshold_may_be_spelled_out() -> None:
    fine = replace(FAKE_INFO, thresholds=(0.5, 0.612345, 0.5))
    assert streams(fine, threshold=[0.5, 0.612345, 0.5]) == streams(fine)


def test_the_finest_threshold_is_a_half_under_plurality_and_as_asked_otherwise() -> None:
    def made(**fields: Any) -> tuple[float, ...]:
        plan = make_plan(CertifyFields(**fields), FAKE_INFO, max_samples_allowed=100_000)
        return plan.cascade.thresholds

    assert made(threshold=[0.75]) == (0.5, 0.75, 0.75)
    assert made(threshold=[0.6, 0.7], sigmas=[1.0, 0.5]) == (0.5, 0.6)
    assert made(threshold=[0.75], final="threshold") == (0.75, 0.75, 0.75)
