"""Schedules of looks: where docs/protocol.md, 4.4 and 4.5, put them, and that they never spend more than all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.service.core import clopper_pearson_lower
from certify.service.core.looks import max_looks, radius_looks

sizes = st.integers(0, 50_000)
grains = st.sampled_from([1, 8, 128])


def test_early_looks_then_the_heavy_one_then_extensions():
    looks = max_looks(1_000, 9_000, 1)
    assert [look.samples for look in looks] == [64, 128, 256, 512, 1_000, 1_500, 2_250, 3_375, 5_063, 7_594, 9_000]
    assert [look.share for look in looks] == pytest.approx([0.025] * 4 + [0.8] + [0.1 / 6] * 6)


@pytest.mark.parametrize(("planned", "early"), [(85, []), (86, [64])])
def test_no_early_look_is_close_to_the_heavy_one_which_then_has_its_share(planned, early):
    looks = max_looks(planned, 10_000, 1)
    assert [look.samples for look in looks[: len(early) + 1]] == [*early, planned]
    assert looks[len(early)].share == pytest.approx(0.8 if early else 0.9)


def test_looks_that_become_equal_are_one_with_their_shares_added():
    assert [look.samples for look in max_looks(200, 260, 128)] == [128, 256]
    assert [look.share for look in max_looks(200, 260, 128)] == pytest.approx([0.1, 0.9])


def test_a_single_look_spends_all():
    assert max_looks(1_000, 5_000, 128, single=True) == ((1_024, 1.0),)
    assert radius_looks(0.9, 0.001, 5_000, 128, single=True) == ((4_992, 1.0),)


def test_without_draws_there_are_no_looks():
    assert max_looks(100, 0, 8) == radius_looks(0.9, 0.001, 0, 8) == ()


@pytest.mark.parametrize(("target", "error"), [(0.0, 0.001), (1.0, 0.001), (0.9, 0.0)])
def test_a_radius_that_no_look_can_prove_early_gets_one_look(target, error):
    assert radius_looks(target, error, 1_000, 8) == ((1_000, 1.0),)


def test_a_first_look_beyond_the_cap_leaves_the_cap():
    assert radius_looks(0.99, 0.001, 100, 1) == ((100, 1.0),)


@pytest.mark.parametrize("target", [0.55, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("error", [0.05, 0.001, 1e-6])
@pytest.mark.parametrize("cap", [3_000, 10_000])
def test_for_a_radius_the_first_look_is_the_smallest_at_which_a_unanimous_count_certifies(target, error, cap):
    looks = radius_looks(target, error, cap, 1)
    first = looks[0]
    assert clopper_pearson_lower(first.samples, first.samples, error * first.share) > target
    assert clopper_pearson_lower(first.samples - 1, first.samples - 1, error * first.share) <= target
    assert looks[-1] == (cap, 0.5)
    assert looks[-2].samples <= math.ceil(cap / 1.1)
    for before, after in zip(looks[:-2], looks[1:-1], strict=True):
        assert after.samples == pytest.approx(1.5 * before.samples, abs=2)
        assert after.share == before.share


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    planned=sizes, cap=sizes, grain=grains, target=st.floats(0, 1), error=st.floats(1e-12, 0.1), single=st.booleans()
)
def test_looks_ascend_within_the_cap_and_spend_at_most_all(planned, cap, grain, target, error, single):
    for looks in (
        max_looks(planned, cap, grain, single=single),
        radius_looks(target, error, cap, grain, single=single),
    ):
        ends = [look.samples for look in looks]
        assert ends == sorted(set(ends)) and all(0 < end <= cap for end in ends)
        assert all(end % grain == 0 for end in ends)
        assert math.fsum(look.share for look in looks) <= 1 + 1e-12
