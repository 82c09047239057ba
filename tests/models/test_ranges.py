"""Pieces of a range cover it once, end at multiples of the step, and come only as they are asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.models.ranges import cut


@given(first=st.integers(0, 500), count=st.integers(0, 500), step=st.integers(1, 100))
def test_pieces_cover_the_range_in_order_and_never_cross_a_multiple(first: int, count: int, step: int) -> None:
    pieces = list(cut(first, count, step))
    assert [number for low, high in pieces for number in range(low, high)] == list(range(first, first + count))
    for low, high in pieces:
        assert low < high and low // step == (high - 1) // step
    assert len(pieces) == len({number // step for number in range(first, first + count)})


def test_a_range_that_no_memory_could_hold_is_cut_as_it_is_asked_for() -> None:
    pieces = cut(96, 10**18, 64)
    assert [next(pieces), next(pieces)] == [(96, 128), (128, 192)]


@pytest.mark.parametrize("wrong", [(-1, 1, 1), (0, -1, 1), (0, 1, 0)])
def test_what_is_no_range_is_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected first >= 0, count >= 0 and step >= 1, got"):
        cut(*wrong)
