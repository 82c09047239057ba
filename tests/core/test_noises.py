"""Cascades of other noises: psi and radii against 50-digit values, and Theorem A on systems with known answers."""

import json
import math
from decimal import Decimal

import numpy as np
import pytest
from scipy.special import ndtr

from certify.models.noises import NOISES, certified_scale
from certify.service import core
from certify.service.backends.base import cascade_of
from certify.service.core import Cascade, Certifier, Noise, max_radius, min_samples, reachable
from certify.service.core.bounds import floor_radius
from certify.service.core.laws import LAWS
from tests.core.oracle import GOLDEN, cascade_answer, population_radius, run

GOLD = json.loads((GOLDEN / "noises.json").read_text())


def made(case: dict, machinery=core) -> Cascade:
    noise = [
        machinery.Noise(k, certified_scale(k, float(s))) for k, s in zip(case["noise"], case["scales"], strict=True)
    ]
    return machinery.Cascade.of(
        [float(s) for s in case["scales"]], [float(p) for p in case["p0"]], case["final"], noise
    )


def certified(case: dict, machinery=core):
    weights = [float(w) for w in case["weights"]]
    return machinery.cascade_certificate(made(case, machinery), case["counts"], 0, float(case["alpha"]), weights)


def psi(case: dict, machinery=core) -> float:
    """psi(p) - psi(1/2) of one level."""
    one = made({"noise": [case["noise"]], "scales": [case["scale"]], "p0": ["0.5"], "final": "threshold"}, machinery)
    return one.scales[0] * one.laws[0].quantile(float(case["p"]))


@pytest.mark.parametrize("case", GOLD["psi"], ids=lambda c: f"{c['noise']}-{c['scale']}-{c['p']}")
def test_psi_is_the_exact_one_and_its_radius_never_above_it(case):
    value, exact = psi(case), case["psi"]
    if exact.endswith("inf"):
        assert value == float(exact)
        return
    assert abs(Decimal(value) - Decimal(exact)) <= Decimal("1e-12") * max(1, abs(Decimal(exact)))
    assert Decimal(floor_radius(value)) <= max(Decimal(0), Decimal(exact))


@pytest.mark.parametrize("case", GOLD["cascade"], ids=lambda c: "-".join([*c["noise"], c["final"]]))
def test_a_cascades_radius_matches_exact_arithmetic_and_never_exceeds_it(case):
    got, expected = certified(case), case["expected"]
    pairs = [(got.radius, expected["radius"]), *zip(got.path_radii, expected["path_radii"], strict=True)]
    for value, exact in pairs:
        assert (value is None) == (exact is None)
        if value is not None:
            assert Decimal(exact) - Decimal("5e-6") <= Decimal(value) <= Decimal(exact)


@pytest.mark.parametrize("kind", NOISES)
def test_a_law_is_what_it_says(kind):
    """Quantile and cdf are inverse, the density is the cdf's slope, all symmetric about 1/2."""
    law = LAWS[kind]
    assert (law.quantile(0.5), math.copysign(1.0, law.quantile(0.5))) == (0.0, 1.0)
    for p in (1e-6, 0.01, 0.2, 0.4999, 0.5, 0.7, 0.99, 1 - 1e-6):
        z = law.quantile(p)
        assert law.cdf(z) == pytest.approx(p, rel=1e-9)
        assert law.quantile(1 - p) == pytest.approx(-z, rel=1e-6, abs=1e-12)
        slope = (law.cdf(z + 1e-6) - law.cdf(z - 1e-6)) / 2e-6
        assert law.density(z) == pytest.approx(slope, rel=1e-3)
    assert law.cdf(-50.0) == pytest.approx(0.0, abs=1e-20)
    assert law.cdf(50.0) == 1.0


def grid_classifiers(kind: str, rng: np.random.Generator, classifiers: int = 60):
    """Random classifiers of the plane, each a chessboard with random squares: (psi(p(x)), psi(p(x'))), and distances.

    The probability of an axis-parallel square under independent noise is a product of differences of the cdf.
    """
    scale, law = certified_scale(kind, 0.5), LAWS[kind]
    cdf, quantile = np.vectorize(law.cdf), np.vectorize(law.quantile)
    for _ in range(classifiers):
        edges = [np.concatenate([[-np.inf], np.sort(rng.uniform(-1.5, 1.5, 5)), [np.inf]]) for _ in range(2)]
        squares = rng.random((6, 6)) < rng.choice([0.2, 0.5, 0.8])
        if rng.random() < 0.3:  # a half-plane
            squares[:, :] = np.arange(6)[:, None] < rng.integers(1, 6)
        x = rng.uniform(-1, 1, (40, 2))
        steps = rng.laplace(scale=rng.choice([1e-3, 0.1]), size=(40, 2)) * (rng.random((40, 2)) < 0.8)
        values = []
        for points in (x, x + steps):
            inside = [np.diff(cdf((edges[i][None, :] - points[:, i, None]) / scale), axis=1) for i in range(2)]
            values.append(scale * quantile(np.clip(np.einsum("na,ab,nb->n", inside[0], squares, inside[1]), 0, 1)))
        far = np.abs(steps).sum(axis=1)
        sound = np.isfinite(values).all(axis=0) & (far > 0) & (np.abs(values) < 12 * scale).all(axis=0)
        yield values[0][sound], values[1][sound], far[sound]


@pytest.mark.parametrize("kind", ["gaussian", "laplace", "uniform"])
def test_random_classifiers_reach_the_lipschitz_constant_and_never_pass_it(kind):
    slopes = [np.abs(a - b) / far for a, b, far in grid_classifiers(kind, np.random.default_rng(5))]
    most = np.concatenate(slopes).max()
    assert 0.999 < most <= 1 + 1e-6


def test_another_noises_psi_would_pass_it():
    """The check above can fail: a Gaussian's psi does not fit Laplace noise."""
    rng = np.random.default_rng(5)
    quantile = np.vectorize(LAWS["gaussian"].quantile)
    most = 0.0
    for a, b, far in grid_classifiers("laplace", rng):
        p, q = (np.vectorize(LAWS["laplace"].cdf)(z / certified_scale("laplace", 0.5)) for z in (a, b))
        with np.errstate(all="ignore"):
            most = max(most, np.nanmax(0.5 * np.abs(quantile(p) - quantile(q)) / far, initial=0.0))
    assert most > 1.05


@pytest.mark.parametrize("final", ["threshold", "plurality"])
def test_theorem_a_holds_at_the_edge_of_the_l1_ball(final):
    """Random cascades of mixed noises and halfspaces along an axis, whose p_k are known in closed form everywhere."""
    rng = np.random.default_rng(7)
    sigmas, kinds = (0.25, 0.5, 1.0), np.array(["gaussian", "laplace", "uniform"])
    checked = 0
    for _ in range(1_500):
        cascade = cascade_of(sigmas, rng.uniform(0.5, 0.8, 3).tolist(), final, rng.choice(kinds, 3).tolist())
        axes = np.eye(4)[rng.integers(0, 4, 3)] * rng.choice([-1, 1], (3, 1))
        offsets, splits = rng.normal(scale=0.5, size=3), rng.uniform(0.2, 0.8, size=3)

        def probabilities(x, cascade=cascade, axes=axes, offsets=offsets, splits=splits):
            at = (axes @ x - offsets) / np.array(cascade.scales)
            first = np.array([law.cdf(z) for law, z in zip(cascade.laws, at, strict=True)])
            return np.stack([first, splits * (1 - first), (1 - splits) * (1 - first)], axis=1)

        def answer(x, probabilities=probabilities, thresholds=cascade.thresholds):
            return cascade_answer(probabilities(x), thresholds, final)

        p = probabilities(np.zeros(4))
        for label in range(3):
            certificate = cascade.certify(p[:, label].tolist(), np.delete(p, label, axis=1).max(axis=1).tolist())
            if certificate.radius == 0.0:
                continue
            steps = rng.dirichlet(np.ones(4), 20) * rng.choice([-1, 1], (20, 4))
            edge = certificate.radius * np.concatenate([steps, np.eye(4), -np.eye(4)])
            assert {answer(x) for x in edge} == {label}
            checked += 1
    assert checked > 600


def test_theorem_a_is_tight_on_a_halfspace():
    """A little further along the axis than the unrounded radius another class is answered."""
    for kind in ("laplace", "uniform"):
        cascade = cascade_of([0.5], 0.5, "plurality", [kind])
        p = 0.8
        radius = cascade.certify([p], [1 - p]).radius
        at = cascade.laws[0].quantile(p) - (radius + 2e-6) / cascade.scales[0]
        assert cascade.laws[0].cdf(at) < 0.5


def test_a_cascade_says_its_norm():
    assert Cascade.of([0.25, 0.5]).norm == "l2"
    assert cascade_of([0.25, 0.5], 0.5, "plurality", ["gaussian", "gaussian"]) == Cascade.of([0.25, 0.5])
    for kinds in (["laplace", "gaussian"], ["uniform", "uniform"], ["splitting", "splitting"]):
        assert cascade_of([0.25, 0.5], 0.5, "plurality", kinds).norm == "l1"


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ([Noise("laplace", 0.1)], "noise: expected 2, one for each sigma, got 1"),
        ([Noise("laplace", 0.1), Noise("cauchy", 0.1)], "noise: expected one of gaussian, laplace"),
        ([Noise("laplace", 0.1), Noise("laplace", 0.0)], "a scale > 0"),
        ([Noise("laplace", 0.1), Noise("laplace", math.nan)], "a scale > 0"),
        ([Noise("laplace", 0.1), Noise("gaussian", 0.4)], "scale of Gaussian noise to be its sigma 0.5, got 0.4"),
    ],
)
def test_noise_that_cannot_be_is_refused_by_name(noise, message):
    with pytest.raises(ValueError, match=message):
        Cascade.of([0.25, 0.5], 0.5, "plurality", noise)


def test_kinds_are_one_for_each_sigma():
    with pytest.raises(ValueError, match="noise: expected 2 kinds, one for each sigma, got 1"):
        cascade_of([0.25, 0.5], 0.5, "plurality", ["laplace"])


@pytest.mark.parametrize("final", ["threshold", "plurality"])
@pytest.mark.parametrize("kinds", [["laplace"] * 3, ["uniform"] * 3, ["gaussian", "laplace", "uniform"]])
def test_the_sampler_plans_and_certifies_in_the_noises_own_units(kinds, final):
    """Most of the population's radius in max mode; in radius mode four fifths of it are met, and more is not."""
    cascade = cascade_of([0.25, 0.5, 1.0], 0.5, final, kinds)
    p = np.array([[0.97, 0.02, 0.01], [0.95, 0.03, 0.02], [0.45, 0.3, 0.25]])
    truth = population_radius(p, 0, cascade=cascade)
    rng = np.random.default_rng(3)
    result = run(Certifier(cascade, 3, samples=20_000), p, rng)
    assert result.label == 0
    assert 0.75 * truth < result.radius < truth
    met = run(Certifier(cascade, 3, samples=20_000, radius=0.7 * truth), p, rng)
    assert met.radius >= 0.7 * truth
    assert met.samples_used < 10_000
    assert run(Certifier(cascade, 3, samples=20_000, radius=1.1 * truth), p, rng).radius < 1.1 * truth


@pytest.mark.parametrize("kind", ["laplace", "uniform"])
def test_limits_are_met_and_not_passed(kind):
    cascade = cascade_of([0.25, 0.5], 0.5, "plurality", [kind] * 2)
    least = min_samples(cascade, alpha=0.001)
    assert reachable(cascade, alpha=0.001, samples=least)
    assert not reachable(cascade, alpha=0.001, samples=least - 1)
    most = max_radius(cascade, alpha=0.001, samples=3_000)
    assert reachable(cascade, alpha=0.001, samples=3_000, radius=most)
    assert not reachable(cascade, alpha=0.001, samples=3_000, radius=most + 1e-6)
    assert not reachable(cascade, alpha=0.001, samples=3_000, radius=100.0)


def test_a_certifier_of_other_noise_is_resumed_from_its_state():
    cascade = cascade_of([0.25, 0.5], 0.5, "threshold", ["uniform", "laplace"])
    whole = Certifier(cascade, 2, samples=2_000)
    half = Certifier.from_state(json.loads(json.dumps(whole.state())))
    while (query := whole.next()) is not None:
        assert half.next() == query
        for machine in (whole, half):
            machine.observe(query, (query.count - 3, 3))
        half = Certifier.from_state(json.loads(json.dumps(half.state())))
    assert half.next() is None
    assert half.result() == whole.result()


def test_a_gaussian_cascade_is_what_it_was():
    """psi of the Gaussian is sigma * Phi^-1, in the very same floating-point operations."""
    cascade = Cascade.of([0.25, 0.5], [0.5, 0.7], "threshold")
    z = float(np.float64(cascade.own(1, 0.9, 1.0)))
    assert z == 0.5 * (LAWS["gaussian"].quantile(0.9) - LAWS["gaussian"].quantile(0.7))
    assert ndtr(z / 0.5 + LAWS["gaussian"].quantile(0.7)) == pytest.approx(0.9)
