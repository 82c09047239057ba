"""Noise in whole grey steps: the laws of its integers, and tables that draw from them exactly.

An image's pixels are whole grey steps n / 255. Let Q round to them and f be any function of images: the noise theorems
are about f(Q(x + noise)), and for such an x that is f(x + Q(noise)). So only integers are drawn (docs/protocol.md, 6):

    P(k) = F((k + 1/2) / 255) - F((k - 1/2) / 255)        F: the noise's distribution function, models.noises its scale

A uniform number u = 0.w0 w1 w2 ..., its digits 64-bit words, becomes the k with T(k - 1) <= u < T(k), where
T(k) = F((k + 1/2) / 255). One word decides, unless it equals the first 64 bits of some T: then further words do, as
many as it takes. Thresholds are computed in integers, to as many bits as are asked for: no float, no rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from .noises import GREY_STEPS, NoiseKind, laplace_b, offsets

__all__ = ("GREY_STEPS", "Law", "law_of", "threshold")

_WORD = 64
_LAST = 2**_WORD - 1
# Larger noise would be grey from end to end; and a table of 80,000 entries takes seconds to make.
_LARGEST = 16.0


@dataclass(frozen=True)
class Law:
    """The integers of one kind of noise at one scale. Compared by what it is made of; `law_of` keeps one of each."""

    kind: NoiseKind
    sigma: float  # standard deviation, in units of [0, 1] pixels

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma <= _LARGEST:
            raise ValueError(f"sigma: expected a value in (0, {_LARGEST:g}], got {self.sigma}")

    @property
    def cell(self) -> int:
        """Grey steps of a splitting cell, which is also the number of its samples; 0 for noise that is drawn."""
        return offsets(self.sigma) if self.kind == "splitting" else 0

    @cached_property
    def words(self) -> NDArray[np.uint64]:
        """Ascending: 0, the first 64 bits of each threshold that has others than these, and 2^64 - 1.

        Below the least and above the greatest of the thresholds lie all others, for which the first and the last entry
        stand. A word that is none of the entries, and below entry i and no earlier one, is the integer `lowest` + i.
        """
        upper: list[int] = []
        while (word := threshold(self, len(upper), _WORD)) < _LAST:
            upper.append(word)
        mirrored = self.kind != "uniform"  # F(-x) = 1 - F(x), and no F(x) here ends after 64 bits
        lower = [_LAST - w if mirrored else threshold(self, -1 - k, _WORD) for k, w in enumerate(upper)]
        return np.array([0, *reversed(lower), *upper, _LAST], dtype=np.uint64)

    @property
    def lowest(self) -> int:
        """What a word below `words[0]` would be."""
        return -(len(self.words) // 2)

    @cached_property
    def guide(self) -> NDArray[np.float32]:
        """(65536,) the integer of all words with these upper 16 bits; NaN where they differ, or a tie is among them."""
        starts = np.arange(2**16, dtype=np.uint64) << np.uint64(48)
        before = np.searchsorted(self.words, starts, side="left")
        after = np.searchsorted(self.words, starts | np.uint64(2**48 - 1), side="right")
        return np.where(before == after, before + self.lowest, np.nan).astype(np.float32)

    def decide(self, digits: Iterator[int], near: int = 0) -> int:
        """The integer of u = 0.w0 w1 w2 ...; takes words, in [0, 2^64), until it is known. near: where to begin."""
        bits, u, k = 0, 0, near
        while True:
            bits, u = bits + _WORD, u << _WORD | next(digits)
            while threshold(self, k, bits) < u:  # T(k) < u
                k += 1
            while threshold(self, k - 1, bits) > u:  # u < T(k - 1)
                k -= 1
            if u not in (threshold(self, k - 1, bits), threshold(self, k, bits)):
                return k


@lru_cache(maxsize=64)  # a few bundles' scales; a table and its guide are 300 KiB
def law_of(kind: NoiseKind, sigma: float) -> Law:
    """The law, which keeps its tables once they are made. Raises ValueError for a scale that is none."""
    return Law(kind, sigma)


def threshold(law: Law, k: int, bits: int) -> int:
    """floor(2^bits F((k + 1/2) / 255)), exactly."""
    place = Fraction(2 * k + 1, 2 * GREY_STEPS)
    match law.kind:
        case "gaussian":
            return _floor(_normal, place / Fraction(repr(float(law.sigma))), bits)
        case "laplace":
            return _floor(_laplace, place / Fraction(laplace_b(law.sigma)), bits)
        case "uniform":
            width = offsets(law.sigma)  # in grey steps, from end to end
            return (min(max(2 * k + 1 + width, 0), 2 * width) << bits) // (2 * width)
        case _:
            raise ValueError(f"noise: expected one that is drawn, got {law.kind}")


def _floor(function: Callable[[Fraction, int], int], x: Fraction, bits: int) -> int:
    """floor(2^bits F(x)) of an F with F(-x) = 1 - F(x) that is irrational at rational x other than 0.

    function(x, bits): 2^bits F(x) for x > 0, less than 1 away from it.
    """
    if x < 0:
        return (1 << bits) - 1 - _floor(function, -x, bits)
    more = 40
    while True:
        value = function(x, bits + more)
        low, high = (value - 1) >> more, min(value + 1, (1 << bits + more) - 1) >> more  # F(x) < 1
        if low == high:
            return low
        more *= 2


def _normal(x: Fraction, bits: int) -> int:
    """F(x) = 1/2 + (x - x^3 / (2 3) + x^5 / (2^2 2! 5) - ...) / sqrt(2 pi)."""
    grows = math.ceil(x * x * Fraction(0.7214)) + 1  # bits of exp(x^2 / 2), which no term passes by much
    if grows > bits + 1:
        return 1 << bits  # 1 - F(x) < exp(-x^2 / 2)
    # A term's rounding grows at most by exp(x^2 / 2) in the terms after it; there are fewer than 2^16.
    scale = bits + 2 * grows + 64
    square, term = _fixed(x * x, scale), _fixed(x, scale)
    total, n = term, 0
    while term:
        n += 1
        term = (term * square >> scale) // (2 * n)
        total += -(term // (2 * n + 1)) if n % 2 else term // (2 * n + 1)
    return ((1 << scale - 1) + (total * _root(scale) >> scale)) >> scale - bits


def _laplace(x: Fraction, bits: int) -> int:
    """F(x) = 1 - exp(-x) / 2, where x is in units of b."""
    grows = math.ceil(x * Fraction(1.4427)) + 1  # bits of exp(x)
    if grows > bits + 1:
        return 1 << bits
    scale = bits + 64
    step, term = _fixed(x, scale), 1 << scale
    total, n = term, 0
    while term:
        n += 1
        term = (term * step >> scale) // n
        total += term
    return (1 << bits) - (1 << scale + bits - 1) // total


def _fixed(value: Fraction, scale: int) -> int:
    return (value.numerator << scale) // value.denominator


@lru_cache(maxsize=1024)
def _root(scale: int) -> int:
    """2^scale / sqrt(2 pi), with pi = 16 atan(1/5) - 4 atan(1/239) (Machin 1706)."""
    pi = 16 * _arctangent(5, scale + 16) - 4 * _arctangent(239, scale + 16)
    return math.isqrt((1 << 3 * scale + 16) // (2 * pi))


def _arctangent(inverse: int, scale: int) -> int:
    """2^scale atan(1 / inverse)."""
    power = total = (1 << scale) // inverse
    n = 1
    while power:
        power //= -inverse * inverse
        n += 2
        total += power // n
    return total
