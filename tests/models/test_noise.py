"""models.noise and noise_laws: integers that never change, against an implementation of the written definition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from certify.models import noise, noise_laws
from certify.models.noise import add_noise, grey_steps, numpy_noise
from certify.models.noise_laws import Law, law_of, threshold
from certify.models.noises import laplace_b, offsets

SHAPE = (4, 3, 3, 3)
SEED = 2**64 - 59
DRAWN = ("gaussian", "laplace", "uniform")
# Of each kind at 0.25, seed 7, chunk 3 of (32, 1, 8, 8): the first six and the last two.
GOLDEN = {
    "gaussian": [-3, 38, -105, -31, 30, -55, -59, -3],
    "laplace": [-2, 27, -104, -21, 20, -42, -47, -2],
    "uniform": [-4, 50, -99, -41, 40, -67, -72, -4],
    "splitting": [96, 19, 216, 47, 125, 164, 144, 129],
}
LAWS = [(kind, sigma) for kind in DRAWN for sigma in (0.004, 0.12, 0.25, 0.5, 1.0)]
LAST = 2**64 - 1


def philox(key: tuple[int, int], counter: tuple[int, int, int, int]) -> list[int]:
    """Philox4x64-10 (Salmon et al. 2011, section 3.3) in Python's integers."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        (h0, l0), (h1, l1) = divmod(x0 * 0xD2E7470EE14C6C93, 2**64), divmod(x2 * 0xCA5A826395121157, 2**64)
        x0, x1, x2, x3 = h1 ^ x1 ^ k0, l1, h0 ^ x3 ^ k1, l0
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) % 2**64, (k1 + 0xBB67AE8584CAA73B) % 2**64
    return [x0, x1, x2, x3]


def digits(seed: int, chunk: int, value: int) -> Iterator[int]:
    m = 0
    while True:
        yield philox((seed, chunk), (value // 4 + 1, m, 0, 0))[value % 4]
        m += 1


def distribution(kind: str, sigma: float, x: mpmath.mpf) -> mpmath.mpf:
    """F(x), x in [0, 1] pixels, of the noise that models.noises describes."""
    if kind == "gaussian":
        return mpmath.erfc(-x / mpmath.mpf(repr(sigma)) / mpmath.sqrt(2)) / 2
    if kind == "laplace":
        b = mpmath.mpf(str(laplace_b(sigma)))
        return mpmath.exp(x / b) / 2 if x < 0 else 1 - mpmath.exp(-x / b) / 2
    half = mpmath.mpf(offsets(sigma)) / 510
    return min(max((x + half) / (2 * half), mpmath.mpf(0)), mpmath.mpf(1))


def integer(kind: str, sigma: float, words: Iterator[int]) -> int:
    """The k with F((k - 1/2) / 255) <= u < F((k + 1/2) / 255), of u to 192 bits, by bisection."""
    with mpmath.workdps(100):
        u = sum(mpmath.mpf(next(words)) / mpmath.mpf(2) ** (64 * (i + 1)) for i in range(3))
        low, high = -5000, 5000
        while low < high:
            k = (low + high) // 2
            low, high = (low, k) if u < distribution(kind, sigma, mpmath.mpf(2 * k + 1) / 510) else (k + 1, high)
        return low


def test_the_generator_below_is_philox_4x64_10() -> None:
    """Random123's known answers; numpy counts up before each block, so one before 0."""
    known = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert np.random.Philox(key=0, counter=2**256 - 1).random_raw(4).tolist() == known == philox((0, 0), (0, 0, 0, 0))
    ones = [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0]
    assert philox((LAST, LAST), (LAST,) * 4) == ones


@pytest.mark.parametrize(
    ("kind", "sigma"), [("gaussian", 0.12), ("gaussian", 1.0), ("laplace", 0.25), ("uniform", 0.5)]
)
def test_the_noise_is_the_written_definition(kind: Any, sigma: float) -> None:
    chunk = 2**33 + 7
    found = numpy_noise(law_of(kind, sigma), SEED, chunk, 1, SHAPE)
    assert found.dtype == np.float32 and found.shape == SHAPE
    expected = [integer(kind, sigma, digits(SEED, chunk, value)) for value in range(found.size)]
    assert found.ravel().tolist() == expected


def test_the_noise_has_its_golden_values() -> None:
    """philox-int-1 stands in answers: under this name it stays."""
    laws = {kind: numpy_noise(law_of(kind, 0.25), 7, 3, 1, (32, 1, 8, 8)).ravel() for kind in (*DRAWN, "splitting")}
    assert {kind: values[:6].tolist() + values[-2:].tolist() for kind, values in laws.items()} == GOLDEN


@pytest.mark.parametrize(("kind", "sigma"), LAWS)
def test_thresholds_are_exact(kind: Any, sigma: float) -> None:
    """To 64 bits, and to 192 as ties need them, in the middle and in the far tails."""
    law = law_of(kind, sigma)
    edge = len(law.words) // 2
    places = sorted({0, -1, 1, edge // 3, -edge // 2, edge - 2, 1 - edge, edge + 2, -edge - 3})
    with mpmath.workdps(200):
        for k in places:
            exact = distribution(kind, sigma, mpmath.mpf(2 * k + 1) / 510)
            for bits in (64, 192):
                scaled = exact * mpmath.mpf(2) ** bits
                rounded = mpmath.nint(scaled)  # a rational value may be whole, and mpmath a hair below it
                expected = rounded if abs(scaled - rounded) < mpmath.mpf(10) ** -60 else mpmath.floor(scaled)
                assert threshold(law, k, bits) == int(expected)


@pytest.mark.parametrize(("kind", "sigma"), LAWS)
def test_words_beside_every_threshold_fall_on_their_sides(kind: Any, sigma: float) -> None:
    """The whole law, tails included: what stands between two neighbours is one integer, and the next is one more."""
    law = law_of(kind, sigma)
    assert (np.diff(law.words.astype(object)) >= 0).all()  # in far tails some are equal
    inner = [int(word) for word in law.words[1:-1]]
    times = Counter([0, *inner, LAST])
    alone = [k for k, word in enumerate(inner) if times[word] == 1]
    apart = [k for k in alone if inner[k] - 1 not in times and inner[k] + 1 not in times]
    lowest = -(len(inner) // 2)
    for shift, more in ((-1, 0), (1, 1)):
        words = np.array([inner[k] + shift for k in apart], dtype=np.uint64)
        found, ties = noise._integers(law, words)
        assert found.tolist() == [lowest + k + more for k in apart] and not ties
    assert noise._integers(law, np.array([0, LAST, inner[alone[0]]], dtype=np.uint64))[1] == [0, 1, 2]
    if kind == "gaussian" and sigma >= 0.12:
        assert (len(inner) // 2) / 255 / sigma > 9  # standard deviations that one word reaches


@pytest.mark.parametrize("beyond", [1, 2])
@pytest.mark.parametrize("more", [-1, 1])
def test_a_tie_is_decided_by_further_words(monkeypatch: pytest.MonkeyPatch, beyond: int, more: int) -> None:
    """A threshold is planted whose first one or two words are the stream's, and whose next is one less or more."""
    law, value = Law("uniform", 0.25), 17
    usual = numpy_noise(law, SEED, 0, 1, SHAPE).ravel()
    k = int(usual[value])
    words = digits(SEED, 0, value)
    planted = [next(words) for _ in range(beyond + 1)]
    planted[-1] += more
    number = sum(word << 64 * (3 - i) for i, word in enumerate(planted))  # 256 bits
    exact = noise_laws.threshold

    def with_it(law: Law, place: int, bits: int) -> int:
        return number >> 256 - bits if place == k else exact(law, place, bits)

    monkeypatch.setattr(noise_laws, "threshold", with_it)
    found = numpy_noise(Law("uniform", 0.25), SEED, 0, 1, SHAPE).ravel()
    assert int(found[value]) == (k if more > 0 else k + 1)
    moved = np.flatnonzero(found != usual)  # the threshold is lower than it was: others may have passed it
    assert (usual[moved] == k).all() and (found[moved] == k + 1).all()


def test_words_of_only_zeros_or_ones_are_decided_far_out() -> None:
    law = law_of("gaussian", 0.25)
    for words, sign in (([0, 5], -1), ([LAST, LAST - 5], 1)):
        k = law.decide(iter(words))
        with mpmath.workdps(80):
            u = mpmath.mpf(words[0]) / 2**64 + mpmath.mpf(words[1]) / 2**128
            low, high = (distribution("gaussian", 0.25, mpmath.mpf(2 * j + 1) / 510) for j in (k - 1, k))
            assert low <= u < high and sign * k > 12 * 0.25 * 255
    assert law_of("uniform", 0.25).decide(iter([0, 1])) == -110  # on [-110.5, 110.5]


@pytest.mark.parametrize("kind", [*DRAWN, "splitting"])
def test_any_part_of_a_stream_can_be_read_alone(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    law = law_of(kind, 0.5)
    whole = numpy_noise(law, SEED, 3, 6, SHAPE)
    for first, count in ((0, 1), (2, 3), (5, 1)):
        part = numpy_noise(law, SEED, 3 + first, count, SHAPE)
        assert np.array_equal(part, whole[first * 4 : (first + count) * 4])
    for piece in (1, 7, 64, 300):  # values that are made together
        monkeypatch.setattr(noise, "_PIECE", piece)
        assert np.array_equal(numpy_noise(law, SEED, 3, 6, SHAPE), whole)


def test_every_bit_of_seed_and_chunk_counts() -> None:
    law = law_of("gaussian", 0.5)
    keys = [(s, j) for s in (0, 1, 2**32, 2**63) for j in (0, 1, 2**31, 2**40)]
    assert len({numpy_noise(law, s, j, 1, (1, 1, 4, 4)).tobytes() for s, j in keys}) == len(keys)


def _goodness(kind: Any, sigma: float, draws: int) -> float:
    """p-value of Pearson's chi-square; integers expected fewer than ten times are one."""
    law = law_of(kind, sigma)
    values = numpy_noise(law, 2310, 0, draws // 4096, (64, 1, 8, 8)).ravel().astype(np.int64)
    lowest = -(len(law.words) // 2)
    cut = np.array([threshold(law, k, 64) / 2**64 for k in range(lowest, -lowest)])
    expected = np.diff(np.concatenate([[0.0], cut, [1.0]])) * len(values)
    found = np.bincount(values - lowest, minlength=len(expected)).astype(np.float64)
    assert found.sum() == len(values) and len(found) == len(expected)
    many = expected >= 10
    pairs = [*zip(found[many], expected[many], strict=True), (found[~many].sum(), expected[~many].sum())]
    statistic = sum((f - e) ** 2 / e for f, e in pairs if e > 0)
    return float(chi2.sf(statistic, len(pairs) - 1))


@pytest.mark.parametrize(("kind", "sigma"), [("gaussian", 0.12), ("laplace", 0.12), ("uniform", 0.12)])
def test_the_integers_follow_their_law(kind: Any, sigma: float) -> None:
    assert _goodness(kind, sigma, 2**18) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "sigma"), [(k, s) for k in DRAWN for s in (0.12, 0.25, 0.5)])
def test_ten_million_integers_follow_their_law(kind: Any, sigma: float) -> None:
    assert _goodness(kind, sigma, 10_002_432) > 1e-4


def test_neighbours_are_independent() -> None:
    values = numpy_noise(law_of("gaussian", 0.25), 5, 0, 64, (64, 1, 8, 8)).ravel().astype(np.float64)
    for lag in (1, 2, 3, 4, 64, 4096):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 5 / np.sqrt(len(values))


def test_all_8_bit_pixels_are_grey_steps_and_others_are_refused() -> None:
    pixels = (np.arange(256, dtype=np.float32) / np.float32(255)).reshape(1, 16, 16)
    assert grey_steps(pixels).ravel().tolist() == list(range(256))
    for wrong in (0.5, np.nextafter(pixels[0, 0, 3], np.float32(1)), np.nan):
        spoiled = pixels.copy()
        spoiled[0, 0, 3] = wrong
        with pytest.raises(ValueError, match="image: expected values n / 255"):
            grey_steps(spoiled)


def test_the_network_sees_whole_steps_rounded_once() -> None:
    law, steps = law_of("gaussian", 0.5), np.full((1, 1, 1), 255, np.float32)
    image: NDArray[np.float32] = grey_steps(np.arange(64, dtype=np.float32).reshape(1, 8, 8) / np.float32(255))
    drawn = numpy_noise(law, 1, 0, 1, (32, 1, 8, 8))
    seen = add_noise(law, image, drawn, steps)
    assert seen.dtype == np.float32
    for value, whole in zip(seen.ravel().tolist(), (image + drawn).ravel().tolist(), strict=True):
        exact = Fraction(int(whole), 255)
        near = (np.nextafter(np.float32(value), np.float32(to)) for to in (-np.inf, np.inf))
        assert all(abs(Fraction(value) - exact) <= abs(Fraction(float(other)) - exact) for other in near)


def test_splitting_shows_the_network_the_cell_and_nothing_else() -> None:
    """Every offset once at each place; one grey step changes what one sample of all sees, and only at that place."""
    law, steps = law_of("splitting", 0.11547), np.full((1, 1, 1), 255, np.float32)
    cell = law.cell
    assert cell == offsets(0.11547) == 102
    drawn = numpy_noise(law, 0, 0, 4, (32, 1, 3, 3))[:cell]
    assert np.array_equal(drawn, numpy_noise(law, SEED, 0, 4, (32, 1, 3, 3))[:cell])
    assert all(sorted(column) == list(range(cell)) for column in drawn.reshape(cell, -1).T.tolist())
    assert len({tuple(row) for row in (drawn - drawn[:, :, :1, :1]).reshape(cell, -1).tolist()}) > 1
    for low in range(0, 255, 5):
        image = np.full((1, 3, 3), low, np.float32)
        brighter = image.copy()
        brighter[0, 1, 2] += 1
        before, after = (add_noise(law, x, drawn, steps) for x in (image, brighter))
        assert np.abs(before * 255 - low).max() < cell / 2 + 1e-3  # the middle of the pixel's own cell
        changed = np.argwhere(before != after)
        assert len(changed) == 1 and changed[0, 1:].tolist() == [0, 1, 2]


def test_a_splitting_law_draws_nothing() -> None:
    with pytest.raises(ValueError, match="noise: expected one that is drawn, got splitting"):
        law_of("splitting", 0.25).words.sum()


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf"), 17.0])
def test_a_scale_that_is_none_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma: expected a value in"):
        Law("gaussian", sigma)
