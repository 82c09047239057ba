"""Cascades whose every sample is counted: exact fractions, Theorem B by enumeration, and the counter's manners."""

import json
from fractions import Fraction

import numpy as np
import pytest

from certify.models.noises import offsets
from certify.service.backends.base import cascade_of
from certify.service.core import (
    Cascade,
    Counter,
    ProtocolError,
    Query,
    Reason,
    StageOutcome,
    counted_certificate,
    counted_limit,
    whole_counts,
)
from tests.core.oracle import GOLDEN

GOLD = json.loads((GOLDEN / "noises.json").read_text())["counted"]
STEP = Fraction(1, 1_000_000)


def splitting(sigmas: list[float], threshold: float | list[float] = 0.5, final: str = "plurality") -> Cascade:
    return cascade_of(sigmas, threshold, final, ["splitting"] * len(sigmas))


def counted(cascade: Cascade, counts: list[list[int]]):
    counter = Counter(cascade, len(counts[0]))
    while (query := counter.next()) is not None:
        counter.observe(query, counts[query.level])
    return counter.result()


@pytest.mark.parametrize("case", GOLD, ids=lambda c: f"{len(c['scales'])}-{c['final']}-{c['expected']['radius']}")
def test_a_counted_radius_is_the_exact_fraction_cut_to_six_digits(case):
    cascade = splitting([float(s) for s in case["scales"]], [float(p) for p in case["p0"]], case["final"])
    label, certificate = counted_certificate(cascade, case["counts"])
    exact = Fraction(case["expected"]["radius"])
    if exact == 0:
        assert label != 0 or certificate.radius == 0.0
        return
    assert label == 0
    assert exact - 2 * STEP < Fraction(certificate.radius) < exact
    for value, path in zip(certificate.path_radii, case["expected"]["path_radii"], strict=True):
        assert (value is None) == (path is None)
        if value is not None:
            assert Fraction(path) - 2 * STEP < Fraction(value) < Fraction(path)
    result = counted(cascade, case["counts"])
    assert (result.label, result.radius) == (0, certificate.radius)


def test_a_vote_on_the_threshold_is_not_above_it():
    """110 of 220 is 1/2 exactly, and so is 165 of 220 = 3/4 at a threshold of 3/4."""
    sigma = next(s / 10_000 for s in range(2_000, 3_000) if offsets(s / 10_000) == 220)
    for threshold, votes in ((0.5, 110), (0.75, 165)):
        cascade = splitting([sigma], threshold, "threshold")
        assert counted(cascade, [[votes, 220 - votes]]).radius == 0.0
        assert counted(cascade, [[votes + 1, 219 - votes]]).radius == pytest.approx(1 / 255, abs=2e-6)


def test_a_radius_on_the_grid_is_not_claimed_itself():
    """306 of 306 samples: 306 / 510 = 0.6 exactly, and an image at that distance may be answered otherwise."""
    sigma = next(s / 10_000 for s in range(3_000, 4_000) if offsets(s / 10_000) == 306)
    result = counted(splitting([sigma]), [[306, 0]])
    assert result.radius == result.stages[0].radius_bound == counted_limit(splitting([sigma])) == 0.599999


def cells(image: np.ndarray, shift: np.ndarray, whole: int) -> list[tuple[int, ...]]:
    """What the network sees of each sample: the number of the cell that each pixel lies in, at that sample's offset."""
    return [tuple((image + (s + shift) % whole) // whole) for s in range(whole)]


def votes_of(image: np.ndarray, shift: np.ndarray, whole: int, seen: dict, rng: np.random.Generator) -> np.ndarray:
    """Of a random function of the sample's number and the cells, the same for every image."""
    labels = [seen.setdefault((s, cell), int(rng.integers(3))) for s, cell in enumerate(cells(image, shift, whole))]
    return np.bincount(labels, minlength=3)


def test_one_grey_step_moves_at_most_one_sample_and_some_move_one():
    """Theorem B (docs/protocol.md, 2.4), on images of three pixels and random functions of what is seen."""
    rng = np.random.default_rng(3)
    reached = 0
    for _ in range(300):
        whole = int(rng.integers(2, 40))
        shift, image = rng.integers(0, whole, 3), rng.integers(0, 256, 3)
        other = np.clip(image + rng.integers(-2, 3, 3) * (rng.random(3) < 0.4), 0, 255)
        far = int(np.abs(other - image).sum())
        seen: dict = {}
        before, after = (votes_of(x, shift, whole, seen, rng) for x in (image, other))
        assert np.abs(after - before).max() <= far
        assert sum(a != b for a, b in zip(cells(image, shift, whole), cells(other, shift, whole), strict=True)) <= far
        reached += far > 0 and np.abs(after - before).max() == far
    assert reached > 20


def test_no_image_nearer_than_the_radius_is_answered_otherwise_and_one_at_that_distance_is():
    """Threshold cuts of one pixel: every image is tried, and the bound is met to the grey step."""
    sigma = 0.05
    whole = offsets(sigma)
    cascade = splitting([sigma])
    shift = np.array([5])
    edge = 128  # the network's answer: the middle of the cell is at or above it

    def row(pixel: int) -> list[int]:
        ones = 0
        for s in range(whole):
            offset = (s + 5) % whole
            start = (pixel + offset) // whole * whole - offset
            ones += 2 * start + whole - 1 >= 2 * edge
        return [whole - ones, ones]

    assert len(cells(np.array([7]), shift, whole)) == whole
    rows = [row(pixel) for pixel in range(256)]
    answers = [int(r[1] > r[0]) for r in rows]
    tight = 0
    for pixel, counts in enumerate(rows):
        result = counted(cascade, [counts])
        if result.label is None:
            assert counts[0] == counts[1]
            continue
        near = [p for p in range(256) if Fraction(abs(p - pixel), 255) < Fraction(result.radius)]
        assert {answers[p] for p in near} == {result.label}
        steps = -(-abs(counts[0] - counts[1]) // 2)  # the nearest that may be answered otherwise
        tight += any(0 <= p < 256 and answers[p] != result.label for p in (pixel - steps, pixel + steps))
    assert tight > 10


def test_a_fine_path_is_shielded_by_the_coarser_scales():
    cascade = splitting([0.05, 0.1])
    fine, coarse = whole_counts(cascade)
    blocked = counted(cascade, [[fine, 0, 0], [10, coarse - 10, 0]])
    assert (blocked.label, blocked.level) == (1, 1)
    shielded = counted(cascade, [[fine, 0, 0], [30, 25, coarse - 55]])
    assert (shielded.label, shielded.level) == (0, 0)
    assert shielded.radius == pytest.approx((coarse / 2 - 33) / 255, abs=2e-6)
    assert [stage.outcome for stage in shielded.stages] == [StageOutcome.PATH, StageOutcome.PASSED]
    assert all(stage.radius_bound >= shielded.radius for stage in shielded.stages)


def test_abstentions_say_why():
    cascade = splitting([0.05, 0.1], [0.5, 0.5], "threshold")
    fine, coarse = whole_counts(cascade)
    half = coarse // 2
    assert 2 * half == coarse
    no_one = [[fine // 2, fine // 4, fine - fine // 2 - fine // 4], [half - 4, half - 5, 9]]
    assert counted(cascade, no_one).reason == Reason.NO_STAGE_CONFIDENT
    # The fine scale is sure of class 0. Class 1 has exactly half of the coarse one: that neither decides nor passes.
    rival = counted(cascade, [[fine, 0, 0], [half - 1, half, 1]])
    assert (rival.reason, rival.label, rival.radius) == (Reason.RIVAL_AT_LARGER_SIGMA, None, 0.0)
    tie = counted(cascade, [[fine, 0, 0], [half, half, 0]])
    assert (tie.reason, tie.label, tie.radius) == (Reason.UNDECIDED, None, 0.0)
    assert [stage.outcome for stage in tie.stages] == [StageOutcome.PASSED, StageOutcome.OPEN]


def test_nothing_is_said_before_the_last_sample():
    cascade = splitting([0.05, 0.1])
    counter = Counter(cascade, 2)
    fine, coarse = whole_counts(cascade)
    assert counter.outlook() == []
    assert counter.progress() == [(fine, False), (coarse, False)]
    first = counter.next()
    assert first == counter.next() == Query(level=1, purpose="estimation", first=0, count=coarse)
    for counts in ([coarse, 1], [coarse + 1, -1], [coarse], [coarse - 1, 0]):
        with pytest.raises(ProtocolError, match=f"expected {coarse} votes of 2 classes"):
            counter.observe(first, counts)
    counter.observe(first, [coarse, 0])
    assert counter.progress() == [(fine, False), (coarse, True)]
    early = counter.result()
    assert (early.label, early.radius, early.complete, early.has_data) == (None, 0.0, False, False)
    assert (early.reason, early.samples_used, early.stages) == ("no_data", coarse, ())
    with pytest.raises(ProtocolError, match="expected counts for"):
        counter.observe(first, [coarse, 0])
    counter.observe(counter.next(), [fine, 0])
    assert counter.next() is None
    assert counter.result().radius == counted_limit(cascade) == pytest.approx(coarse / 2 / 255, abs=2e-6)


def test_counts_of_a_part_of_the_samples_prove_nothing():
    cascade = splitting([0.1])
    (whole,) = whole_counts(cascade)
    for row in ([whole - 1, 0], [whole + 1, -1], [2 * whole, 0]):
        with pytest.raises(ValueError, match=f"expected all {whole} samples"):
            counted_certificate(cascade, [row])


def test_noise_that_is_drawn_cannot_be_counted():
    for kinds in (["laplace"], ["uniform"], []):
        with pytest.raises(ValueError, match="noise: expected splitting at each scale"):
            Counter(cascade_of([0.25], 0.5, "plurality", kinds), 2)
