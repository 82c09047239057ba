"""The best-of-paths certificate: golden values, hand-worked cases, and Theorem 1 on systems with known answers."""

import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest

from certify.service.core import Cascade, cascade_certificate
from certify.service.core.certificate import level_bounds
from tests.core.oracle import GOLDEN, cascade_answer

CASES = json.loads((GOLDEN / "statistics.json").read_text())


def _within(value: float | None, exact: str | None, below: str, above: str = "0") -> bool:
    if value is None or exact is None:
        return value is None and exact is None
    return Decimal(exact) - Decimal(below) <= Decimal(value) <= Decimal(exact) + Decimal(above)


@pytest.mark.parametrize(
    ("final", "case"),
    [("threshold", c) for c in CASES["cascade"]] + [("plurality", c) for c in CASES["cascade_plurality"]],
    ids=lambda v: v if isinstance(v, str) else v["expected"]["reason"],
)
def test_certificate_matches_exact_arithmetic_and_never_exceeds_it(final, case):
    expected = case["expected"]
    threshold = [float(p) for p in case["p0"]] if isinstance(case["p0"], list) else float(case["p0"])
    cascade = Cascade.of([float(s) for s in case["scales"]], threshold, final)
    weights = [float(w) for w in case["weights"]]
    got = cascade_certificate(cascade, case["counts"], case["y"], float(case["alpha"]), weights)
    assert (got.reason, got.level) == (expected["reason"], expected["level"])
    assert _within(got.radius, expected["radius"], "5e-6")
    for value, exact in zip(got.path_radii, expected["path_radii"], strict=True):
        assert _within(value, exact, "5e-6")
    for value, exact in zip(got.lower, expected["lower"], strict=True):
        assert _within(value, exact, "1e-9")
    for value, exact in zip(got.upper, expected["upper"], strict=True):
        assert _within(value, exact, "0", "1e-9")


def by_threshold(sigmas: list[float], threshold: float | list[float] = 0.5) -> Cascade:
    return Cascade.of(sigmas, threshold, "threshold")


def test_one_scale_by_threshold_is_cohen_certify():
    # Cohen et al. (2019), CERTIFY: radius = sigma * Phi^-1(lower), lower one-sided exact at .001
    got = cascade_certificate(by_threshold([0.25]), [[9_900, 100]], 0, 0.001, [1.0])
    lower = binomtest(9_900, 10_000, alternative="greater").proportion_ci(0.999, method="exact").low
    assert got.lower[0] == pytest.approx(lower, abs=1e-9)
    assert got.radius == pytest.approx(0.25 * ndtri(lower), abs=1.1e-6)


def test_a_weak_coarse_level_is_skipped_over_and_only_its_shield_counts():
    """Scales .5 and 1; the coarse level is open for y (40% of votes) but every rival is far below 1/2."""
    counts = [[9_900, 50, 50], [4_000, 3_000, 3_000]]
    got = cascade_certificate(by_threshold([0.5, 1.0]), counts, 0, 0.001, [0.9, 0.1])
    own = 0.5 * ndtri(got.lower[0])
    shield = -1.0 * ndtri(got.upper[1])
    assert got.level == 0
    assert got.path_radii[1] is None
    assert got.radius == pytest.approx(min(own, shield), abs=1.1e-6)
    assert shield < own


def test_a_rival_at_the_coarse_level_blocks_the_path():
    got = cascade_certificate(by_threshold([0.5, 1.0]), [[9_900, 100], [4_000, 6_000]], 0, 0.001, [0.9, 0.1])
    assert (got.reason, got.radius, got.level) == ("blocked", 0.0, None)


def test_a_high_coarse_threshold_neither_decides_nor_blocks():
    """p0 -> 1 at the coarse scale: the cascade becomes the fine scale alone."""
    votes = [[9_900, 100], [4_000, 6_000]]
    got = cascade_certificate(by_threshold([0.5, 1.0], [0.5, 0.999]), votes, 0, 0.001, [1.0, 0.0])
    alone = cascade_certificate(by_threshold([0.5]), votes[:1], 0, 0.001, [1.0])
    assert got.radius == alone.radius


def test_ties_go_to_the_coarser_level():
    """Both paths are limited by the same shield at scale 2."""
    counts = [[10_000, 0], [10_000, 0], [5_200, 4_800]]
    cascade = by_threshold([0.5, 0.75, 1.0], [0.5, 0.5, 0.6])
    got = cascade_certificate(cascade, counts, 0, 0.001, [1 / 3, 1 / 3, 1 / 3])
    assert got.path_radii[0] == got.path_radii[1] == got.radius
    assert got.level == 1


def test_theorem_3_charges_a_path_of_the_planned_level_nothing_for_its_length():
    cascade = Cascade.of([0.25, 0.5, 1.0], 0.5, "threshold")
    assert cascade.error_split([0.9, 0.05, 0.05]) == [(0.9, 0.0), (0.05, 0.9), (0.05, pytest.approx(0.95))]
    plural = Cascade.of([0.25, 0.5], 0.5, "plurality")
    assert plural.error_split([0.8, 0.2]) == [(0.4, 0.4), (0.2, 0.8)]


@pytest.mark.parametrize("final", ["threshold", "plurality"])
def test_theorem_1_holds_at_the_edge_of_the_ball(final):
    """Random cascades of halfspace classifiers, whose p_k are known in closed form everywhere.

    Level k answers class 0 on {v_k.x > b_k} and splits the other side between classes 1 and 2, so that
    p_k(0)(x) = Phi((v_k.x - b_k) / sigma_k). No image in the ball may be answered differently.
    """
    rng = np.random.default_rng(7)
    sigmas = np.array([0.25, 0.5, 1.0])
    checked = 0
    for _ in range(3_000):
        directions = rng.normal(size=(3, 4))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        offsets = rng.normal(scale=0.5, size=3)
        splits = rng.uniform(0.2, 0.8, size=3)
        thresholds = rng.uniform(0.5, 0.8, size=3)

        def probabilities(x, directions=directions, offsets=offsets, splits=splits):
            first = ndtr((directions @ x - offsets) / sigmas)
            return np.stack([first, splits * (1 - first), (1 - splits) * (1 - first)], axis=1)

        def answer(x, probabilities=probabilities, thresholds=thresholds):
            return cascade_answer(probabilities(x), thresholds, final)

        p = probabilities(np.zeros(4))
        cascade = Cascade.of(sigmas.tolist(), thresholds.tolist(), final)
        for label in range(3):
            certificate = cascade.certify(p[:, label].tolist(), np.delete(p, label, axis=1).max(axis=1).tolist())
            if certificate.radius == 0.0:
                continue
            steps = rng.normal(size=(40, 4))
            steps *= certificate.radius / np.linalg.norm(steps, axis=1, keepdims=True)
            edge = [*steps, *(certificate.radius * directions), *(-certificate.radius * directions)]
            assert {answer(x) for x in edge} == {label}
            checked += 1
    assert checked > 1_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.49}, "threshold"),
        ({"threshold": [0.5]}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"sigmas": [1.0, 0.5]}, "sigmas"),
        ({"sigmas": [0.5, 0.5]}, "sigmas"),
        ({"sigmas": [0.0, 0.5]}, "sigmas"),
        ({"weights": [0.5, 0.6]}, "weights"),
        ({"weights": [1.5, -0.5]}, "weights"),
        ({"weights": [1.0]}, "weights"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 1.0}, "alpha"),
        ({"label": 2}, "label"),
        ({"counts": [[1, 2]]}, "counts"),
        ({"counts": [[1, -2], [1, 2]]}, "counts"),
        ({"final": "last"}, "final"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change, message):
    arguments = {
        "counts": [[9, 1], [8, 2]],
        "label": 0,
        "sigmas": [0.5, 1.0],
        "threshold": 0.5,
        "alpha": 0.1,
        "weights": [0.5, 0.5],
    }
    arguments |= change
    rule = {name: arguments.pop(name) for name in ("sigmas", "threshold", "final") if name in arguments}
    with pytest.raises(ValueError, match=message):
        cascade_certificate(Cascade.of(**rule), **arguments)


def test_a_rivals_share_is_never_rounded_below_what_the_label_leaves():
    """The upper bound has no error of its own here: it is 1 minus the lower one, exactly or a little more."""
    for votes in range(1, 400):
        lower, upper = level_bounds(votes, 400 - votes, 400, (1e-3, 0.0))
        left = 1 - Fraction(lower)
        assert left <= Fraction(upper) <= left + Fraction(1, 10**14)
