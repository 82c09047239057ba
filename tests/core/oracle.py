"""Runs the certifier against populations whose probabilities are known; shared by the statistical tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from certify.models.noises import NoiseKind
from certify.service.backends.base import cascade_of
from certify.service.core import Cascade, Certifier, Noise, Result

GOLDEN = Path(__file__).parent.parent / "golden"
ADVERSARIAL = json.loads((GOLDEN / "adversarial.json").read_text())
RUNS = 1500

Matrix = NDArray[np.float64]


PSI = {
    "gaussian": ndtri,
    "laplace": lambda p: np.where(p < 0.5, np.log(2 * p), -np.log(2 * (1 - p))),
    "uniform": lambda p: p,
}


def cascade_answer(p: Matrix, thresholds: Sequence[float], final: str) -> int | None:
    """What the cascade of docs/protocol.md, 2.1, answers where its probabilities are p (levels, classes)."""
    for k in reversed(range(len(p))):
        if k == 0 and final == "plurality":
            return int(p[0].argmax())
        if p[k].max() > thresholds[k]:
            return int(p[k].argmax())
    return None


def population_radius(
    p: Matrix,
    label: int,
    sigmas: Sequence[float] | None = None,
    *,
    final: str = "threshold",
    thresholds: Sequence[float] | None = None,
    cascade: Cascade | None = None,
) -> float:
    """R*(label) from true probabilities p (levels, classes): docs/protocol.md, 2.2 and 2.3, read directly.

    cascade: in place of all that stands before it; without one the noise is Gaussian.
    """
    if cascade is not None:
        final, thresholds, noises = cascade.final, cascade.thresholds, cascade.noises
    else:
        noises = tuple(Noise("gaussian", sigma) for sigma in (() if sigmas is None else sigmas))
    bars = thresholds if thresholds is not None else [0.5] * len(noises)
    rival = np.delete(p, label, axis=1).max(axis=1)
    with np.errstate(all="ignore"):
        base, top, second = (
            np.array([scale * PSI[kind](value) for (kind, scale), value in zip(noises, values, strict=True)])
            for values in (bars, p[:, label], rival)
        )
        own, shield = top - base, base - second
        if final == "plurality":
            own[0] = (top[0] - second[0]) / 2
    paths = [min([own[k], *shield[k + 1 :]]) for k in range(len(noises))]
    return float(max(paths))


def run(
    certifier: Certifier, p: Matrix, rng: np.random.Generator, watch: Callable[[Result], None] | None = None
) -> Result:
    """Drive to the end with multinomial votes; `watch` sees every intermediate result."""
    while (query := certifier.next()) is not None:
        certifier.observe(query, rng.multinomial(query.count, p[query.level]).tolist())
        if watch is not None:
            watch(certifier.result())
    return certifier.result()


def false_certificates(
    case: dict, policy: dict, *, final: str, kinds: Sequence[NoiseKind] = (), runs: int = RUNS
) -> int:
    """Of `runs` answers at alpha = .1, how many claim more than their label's population radius."""
    cascade = cascade_of(ADVERSARIAL["sigmas"], 0.5, final, kinds)
    p = np.array(case["p"])
    p = p / p.sum(axis=1, keepdims=True)
    truth = [population_radius(p, label, cascade=cascade) for label in range(p.shape[1])]
    radius = None
    if policy["mode"] == "radius":
        factor = 1.0001 if "1.0001" in policy["radius"] else 0.8
        radius = max(0.02, factor * max(truth))
    rng = np.random.default_rng(sum(map(ord, case["name"])) + policy["samples"])
    wrong = 0
    for _ in range(runs):
        certifier = Certifier(
            cascade,
            p.shape[1],
            alpha=ADVERSARIAL["alpha"],
            samples=policy["samples"],
            radius=radius,
            pilot=policy["n0"],
        )
        result = run(certifier, p, rng)
        wrong += result.label is not None and result.radius > max(0.0, truth[result.label])
    return wrong
