"""What a scale means, against mpmath."""

from decimal import Decimal
from fractions import Fraction

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.models.noises import NOISES, certified_scale, half_width, laplace_b, offsets

SCALES = st.floats(min_value=0.003, max_value=10.0)


@given(SCALES)
def test_b_is_the_standard_deviation_over_root_two_rounded_down_to_six_decimals(s):
    with mpmath.workdps(50):
        exact = mpmath.mpf(repr(s)) / mpmath.sqrt(2)
        b = laplace_b(s)
        assert b == b.quantize(Decimal("0.000001"))
        assert 0 <= exact - mpmath.mpf(str(b)) < mpmath.mpf("1e-6")


@given(SCALES)
def test_the_width_is_the_whole_number_of_grey_steps_nearest_to_the_standard_deviation(s):
    with mpmath.workdps(50):
        exact = 2 * mpmath.sqrt(3) * 255 * mpmath.mpf(repr(s))
        assert abs(exact - offsets(s)) <= mpmath.mpf("0.5")
    assert half_width(s) == Fraction(offsets(s), 510)


@given(st.sampled_from(NOISES), SCALES)
def test_the_certified_scale_is_never_above_the_constant_that_is_drawn(kind, s):
    exact = {"gaussian": Fraction(s), "laplace": Fraction(laplace_b(s))}.get(kind, 2 * half_width(s))
    certified = Fraction(certified_scale(kind, s))
    assert exact * (1 - Fraction(1, 2**52)) < certified <= exact


def test_scales_of_the_shipped_bundles():
    assert [offsets(s) for s in (0.12, 0.25, 0.5, 1.0)] == [106, 221, 442, 883]
    assert [str(laplace_b(s)) for s in (0.12, 0.25, 0.5)] == ["0.084852", "0.176776", "0.353553"]
    assert offsets(0.11547) == 102  # a cell of .4


@pytest.mark.parametrize("s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(s):
    for read in (laplace_b, offsets):
        with pytest.raises(ValueError, match="sigmas: expected a finite value > 0"):
            read(s)


def test_noise_that_would_be_none_is_refused():
    with pytest.raises(ValueError, match="Laplace noise of at least"):
        laplace_b(1e-6)
    with pytest.raises(ValueError, match="two grey steps"):
        offsets(0.001)
    with pytest.raises(ValueError, match="expected one of gaussian, laplace"):
        certified_scale("cauchy", 0.5)
