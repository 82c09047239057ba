"""What each protocol certifies, from one file of votes: ours, the paper's, and every scale alone.

All of them look at the same first N estimation samples of each scale, once, with exact Clopper-Pearson bounds. The
service itself stops earlier and is judged by its own answers; these are for comparing certificates with certificates.

    best               the best path, at the file's label and weights (docs/protocol.md, 2.2 and 3.2)
    first              the same bounds, but only the path of the level that decides: the paper's certificate
    reference          the paper's protocol (arXiv 2310.16779, section 3.1) as published, not proved at alpha:
                       classes are chosen level by level, each stage at alpha / (stage + 1)
    max-radius         another smoothed classifier: the label of the largest radius of all scales (docs/protocol.md, 5)
    single             one scale: Cohen, Rosenfeld and Kolter (2019), or its plurality form
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ...models.bundle import Final
from ..core import Cascade, Noise, PilotPlan, cascade_certificate, clopper_pearson_lower, clopper_pearson_upper
from ..core.bounds import floor_radius
from ..core.certificate import Certificate, level_bounds

__all__ = ("POLICIES", "Outcome", "Policy", "best", "certify", "first", "max_radius", "reference", "single")

Policy = Literal["best", "first", "reference", "max-radius", "single"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """label None: abstained; its radius is then 0. level: of the certifying scale, 0 the finest."""

    label: int | None
    radius: float
    level: int | None
    visited: int  # scales that were sampled
    undecided: bool = False  # abstained although finer scales, if there are any, were not looked at


def certify(
    policy: Policy,
    counts: NDArray[np.int64],
    pilot: NDArray[np.int64],
    chosen: PilotPlan,
    cascade: Cascade,
    alpha: float,
) -> Outcome:
    """One policy on one image. counts, pilot: (K, C). single: K must be 1; its threshold is 1/2 (Cohen et al.)."""
    match policy:
        case "best":
            return best(counts, chosen.label, cascade, alpha, chosen.weights)
        case "first":
            return first(counts, chosen.label, cascade, alpha, chosen.weights)
        case "reference":
            return reference(counts, pilot, cascade, alpha)
        case "max-radius":
            return max_radius(counts, chosen.label, cascade.sigmas, alpha, chosen.weights, noise=cascade.noises)
        case "single":
            return single(counts[0], pilot[0], cascade.sigmas[0], alpha, cascade.final, noise=cascade.noises[0])


def best(
    counts: NDArray[np.int64], label: int, cascade: Cascade, alpha: float, weights: Sequence[float]
) -> Outcome:  # fmt: skip
    """counts: (K, C) votes; label and weights: from the pilot."""
    certificate = _certificate(counts, label, cascade, alpha, weights)
    return _outcome(label, certificate.radius, certificate.level, cascade.levels)


def first(counts: NDArray[np.int64], label: int, cascade: Cascade, alpha: float, weights: Sequence[float]) -> Outcome:
    """As `best`, but certifies only by the coarsest level that is provably confident of the label."""
    certificate = _certificate(counts, label, cascade, alpha, weights)
    for level in reversed(range(cascade.levels)):
        if cascade.own(level, certificate.lower[level], certificate.upper[level]) is not None:
            return _outcome(label, certificate.path_radii[level] or 0.0, level, cascade.levels)
    return _outcome(label, 0.0, None, cascade.levels)


def reference(counts: NDArray[np.int64], pilot: NDArray[np.int64], cascade: Cascade, alpha: float) -> Outcome:
    """Coarsest first: a level decides, or passes, or ends the matter undecided. counts, pilot: (K, C).

    The published code has Goodman's intervals, which are asymptotic; here the bounds are exact.
    """
    passed: list[tuple[int, float]] = []  # (level, alpha)
    for stage, level in enumerate(reversed(range(cascade.levels))):
        error, threshold = alpha / (stage + 1), cascade.thresholds[level]
        row, samples = counts[level], int(counts[level].sum())
        label = int(np.argmax(pilot[level]))
        lower = clopper_pearson_lower(int(row[label]), samples, error)
        if lower > threshold:
            radius = _above_threshold(cascade, level, lower)
            for above, above_error in passed:
                rival = int(np.delete(counts[above], label).max())
                upper = clopper_pearson_upper(rival, int(counts[above].sum()), above_error)
                radius = min(radius, -_above_threshold(cascade, above, upper))
            return _outcome(label, floor_radius(max(0.0, radius)), level, stage + 1)
        if clopper_pearson_upper(int(row.max()), samples, error) >= threshold:
            return Outcome(label=None, radius=0.0, level=None, visited=stage + 1, undecided=True)
        passed.append((level, error))
    return _outcome(label, 0.0, None, cascade.levels)


def _above_threshold(cascade: Cascade, level: int, p: float) -> float:
    """psi(p) - psi(p0) of the level."""
    return cascade.scales[level] * (cascade.laws[level].quantile(p) - cascade.bases[level])


def max_radius(
    counts: NDArray[np.int64],
    label: int,
    sigmas: Sequence[float],
    alpha: float,
    weights: Sequence[float],
    *,
    noise: Sequence[Noise] = (),
) -> Outcome:
    """Half the gap between the label's and the best rival's max over k of psi_k(p_k) (docs/protocol.md, 5).

    psi_k is 0 at 1/2; of Gaussian noise, which is the default, it is sigma_k Phi^-1.

    Half of alpha goes to the label's lower bounds, shared out by the weights: which of them is the largest is seen
    only in the data. The other half goes whole to each upper bound: one of these scales is the rival's true best, and
    only a failure of that scale's bound can make the largest bound too small.
    """
    cascade = Cascade.of(sigmas, noise=noise)
    lower, upper = [], []
    for scale, law, row, weight in zip(cascade.scales, cascade.laws, counts, weights, strict=True):
        rival = int(np.delete(row, label).max())
        low, up = level_bounds(int(row[label]), rival, int(row.sum()), (alpha / 2 * weight, alpha / 2))
        lower.append(scale * law.quantile(low))
        upper.append(scale * law.quantile(up))
    level = int(np.argmax(lower))
    gap = (lower[level] - max(upper)) / 2
    return _outcome(label, floor_radius(max(0.0, gap)), level, len(lower))


def single(
    row: NDArray[np.int64],
    pilot: NDArray[np.int64],
    sigma: float,
    alpha: float,
    final: Final,
    *,
    noise: Noise | None = None,
) -> Outcome:
    """One scale at threshold 1/2. row, pilot: (C,). noise: None is Gaussian."""
    label = int(np.argmax(pilot))
    alone = Cascade.of([sigma], 0.5, final, () if noise is None else (noise,))
    certificate = cascade_certificate(alone, [row.tolist()], label, alpha, [1.0])
    return _outcome(label, certificate.radius, certificate.level, 1)


def _certificate(
    counts: NDArray[np.int64], label: int, cascade: Cascade, alpha: float, weights: Sequence[float]
) -> Certificate:
    return cascade_certificate(cascade, counts.tolist(), label, alpha, list(weights))


def _outcome(label: int, radius: float, level: int | None, visited: int) -> Outcome:
    if radius > 0.0:
        return Outcome(label=label, radius=radius, level=level, visited=visited)
    return Outcome(label=None, radius=0.0, level=None, visited=visited)
