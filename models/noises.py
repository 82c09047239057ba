"""What the scale of each kind of noise means: read by whoever draws it and by whoever certifies it, and said only here.

A scale s, one of a bundle's `sigmas`, is the noise's standard deviation in units of [0, 1] pixels, whatever the kind:
a denoiser is asked at s. A certificate needs another constant; it is a short decimal or a whole number of grey steps,
so that the noise that is drawn has exactly the constant that is certified.

    gaussian    sigma = s
    laplace     density exp(-|x| / b) / 2b with b = s / sqrt(2), rounded down to six decimals
    uniform     on [-L, L] with 2L = N / 255, where N is the whole number nearest to 2 sqrt(3) 255 s
    splitting   cells of 2L = N / 255, N as above. Nothing is drawn: sample i of a stream stands at offset i mod N,
                whatever its seed, and N samples are all there are (Levine and Feizi 2021; docs/protocol.md, 2.4)
"""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Literal, get_args

__all__ = ("GREY_STEPS", "NOISES", "NoiseKind", "certified_scale", "half_width", "laplace_b", "offsets")

NoiseKind = Literal["gaussian", "laplace", "uniform", "splitting"]
NOISES: tuple[NoiseKind, ...] = get_args(NoiseKind)

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)  # more digits than any product here has before it is rounded
_GRID = Decimal("0.000001")  # of radii, too
GREY_STEPS = 255  # of 8-bit pixels in [0, 1]
_CACHED = 256  # a few bundles' scales


@lru_cache(maxsize=_CACHED)
def laplace_b(s: float) -> Decimal:
    """The b of Laplace noise of standard deviation s > 0. Raises ValueError where it would be 0.

    >>> laplace_b(0.25)
    Decimal('0.176776')
    """
    b = _EXACT.divide(_decimal(s), _EXACT.sqrt(Decimal(2))).quantize(_GRID, ROUND_FLOOR, _EXACT)
    if not b > 0:
        raise ValueError(f"sigmas: expected Laplace noise of at least 0.000002, got {s}")
    return b


@lru_cache(maxsize=_CACHED)
def offsets(s: float) -> int:
    """N, the grey steps from end to end of uniform noise of standard deviation s > 0: 2L = N / 255.

    Also the number of a splitting scale's offsets. Raises ValueError below 2, where there is no noise.

    >>> offsets(0.25)
    221
    """
    steps = _EXACT.multiply(_EXACT.multiply(_EXACT.sqrt(Decimal(3)), _decimal(s)), Decimal(2 * GREY_STEPS))
    n = int(steps.to_integral_value(ROUND_HALF_EVEN, _EXACT))
    if n < 2:
        raise ValueError(f"sigmas: expected uniform noise of at least 0.002 (two grey steps from end to end), got {s}")
    return n


def half_width(s: float) -> Fraction:
    """The L of uniform noise on [-L, L], or of splitting cells of 2L, of standard deviation s > 0."""
    return Fraction(offsets(s), 2 * GREY_STEPS)


def certified_scale(kind: NoiseKind, s: float) -> float:
    """The factor of psi (docs/protocol.md, 2.3): s as it is, or b or 2L rounded down.

    Raises ValueError for no such kind.
    """
    match kind:
        case "gaussian":
            return float(s)
        case "laplace":
            return _below(Fraction(laplace_b(s)))
        case "uniform" | "splitting":
            return _below(2 * half_width(s))
        case _:
            raise ValueError(f"noise: expected one of {', '.join(NOISES)}, got {kind!r}")


def _decimal(s: float) -> Decimal:
    if not 0.0 < s < math.inf:
        raise ValueError(f"sigmas: expected a finite value > 0, got {s}")
    return Decimal(repr(float(s)))  # as it is written: 0.1 is a tenth


def _below(exact: Fraction) -> float:
    """The largest float64 at most `exact`."""
    nearest = float(exact)
    return nearest if Fraction(nearest) <= exact else math.nextafter(nearest, 0.0)
