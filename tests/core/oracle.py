"""Runs the certifier against populations whose probabilities are known; shared by the statistical tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from certify.service.core import Cascade, Certifier, Result

GOLDEN = Path(__file__).parent.parent / "golden"
ADVERSARIAL = json.loads((GOLDEN / "adversarial.json").read_text())
RUNS = 1500

Matrix = NDArray[np.float64]


def population_radius(
    p: Matrix,
    label: int,
    sigmas: Sequence[float],
    *,
    final: str = "threshold",
    thresholds: Sequence[float] | None = None,
) -> float:
    """R*(label) from true probabilities p (levels, classes): the formula of docs/protocol.md, 2.2, read directly."""
    base = ndtri(thresholds if thresholds is not None else [0.5] * len(sigmas))
    rival = np.delete(p, label, axis=1).max(axis=1)
    with np.errstate(all="ignore"):
        own = sigmas * (ndtri(p[:, label]) - base)
        if final == "plurality":
            own[0] = sigmas[0] / 2 * (ndtri(p[0, label]) - ndtri(rival[0]))
        shield = sigmas * (base - ndtri(rival))
    paths = [min([own[k], *shield[k + 1 :]]) for k in range(len(sigmas))]
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


def false_certificates(case: dict, policy: dict, *, final: str, runs: int = RUNS) -> int:
    """Of `runs` answers at alpha = .1, how many claim more than their label's population radius."""
    sigmas = np.array(ADVERSARIAL["sigmas"])
    p = np.array(case["p"])
    p = p / p.sum(axis=1, keepdims=True)
    truth = [population_radius(p, label, sigmas, final=final) for label in range(p.shape[1])]
    radius = None
    if policy["mode"] == "radius":
        factor = 1.0001 if "1.0001" in policy["radius"] else 0.8
        radius = max(0.02, factor * max(truth))
    rng = np.random.default_rng(sum(map(ord, case["name"])) + policy["samples"])
    wrong = 0
    for _ in range(runs):
        certifier = Certifier(
            Cascade.of(sigmas.tolist(), final=final),
            p.shape[1],
            alpha=ADVERSARIAL["alpha"],
            samples=policy["samples"],
            radius=radius,
            pilot=policy["n0"],
        )
        result = run(certifier, p, rng)
        wrong += result.label is not None and result.radius > max(0.0, truth[result.label])
    return wrong
