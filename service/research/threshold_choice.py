"""Thresholds chosen on a validation set's votes, never on those that they will be judged by.

Near 1, a coarse scale neither decides nor blocks: a choice for each scale contains every single scale as a limit. How
near, depends on the network: one that gives the same class to most noise at a coarse scale, as cifar10 gave "deer" at
sigma 1 before it was fine-tuned, has shares of .98 there on images of other classes, and a threshold of .99 cannot be
proved to be missed.
Every candidate is judged as it would be served: label, path and weights planned anew from each image's pilot. The plan
that the file records was made for other thresholds, and its label with it: judged by that label, a coarse threshold
that is too low could never be seen to name the wrong class.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...models.bundle import Final
from ..core import plan_from_pilot
from ..errors import DataError
from .curves import Curve, curve_of_outcomes
from .policies import best, single
from .votes_file import VotesFile

__all__ = ("CANDIDATES", "NEVER", "Choice", "best_curve", "check_split", "finest_accuracy", "tune")

# The largest threshold that a request may ask for (four decimals). It never decides at 10,000 votes, the field's
# number: all of one class, they prove .9993. It blocks only where all or nearly all are of another class.
NEVER = 0.9999
# In steps of .05, and towards 1.
CANDIDATES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99, 0.999, NEVER)
# Every combination up to so many; above them, one scale's threshold at a time. A plan takes 1 ms, so 500 images take a
# minute and a half for three scales (169 combinations under plurality) and twenty minutes for four (2,197).
EXHAUSTIVE = 2_500
# The default floor: what the finest scale alone reaches at radius 0, less so much. Two images in a hundred are what a
# cascade may cost a client that asks for the label alone.
FLOOR_SLACK = 0.02
# Goals that differ by less than half a per cent are equal: a few hundred images tell no more. The more accurate wins.
TIE = 0.005
_JUDGED = {"test", "heldout", "judge", "eval"}

Thresholds = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """candidates[i] certifies as curves[i]. Indices into them: of the choice, and of the choice without a floor."""

    candidates: tuple[Thresholds, ...]
    curves: tuple[Curve, ...]
    chosen: int
    unconstrained: int
    floor: float  # certified accuracy at radius 0 that was to be kept
    kept: bool  # False only for the default floor, when no candidate keeps it: the most accurate is chosen then


def check_split(validation: VotesFile, judge: VotesFile | None = None) -> None:
    """Raise DataError if these votes are of images that a choice must not see."""
    words = set(re.split(r"[^a-z]+", f"{validation.data} {validation.split}".lower().replace("held_out", "heldout")))
    if judged := words & _JUDGED:
        raise DataError(
            f"votes: expected a validation split, got {validation.data}, {validation.split} ({judged.pop()}): "
            "thresholds chosen on the images that they are judged by would be flattered"
        )
    if judge is None:
        return
    if validation.bundle_digest != judge.bundle_digest:
        raise DataError("judge: expected votes of the same bundle")
    if validation.data_digest == judge.data_digest and set(validation.idx.tolist()) & set(judge.idx.tolist()):
        raise DataError("judge: expected other images than those of the choice, and some are in both files")


def tune(
    votes: VotesFile,
    *,
    target: float | None,
    shared: bool,
    final: Final,
    min_accuracy: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Choice:
    """Choose for the largest certified accuracy at radius `target`, or (None) the largest ACR; of near ties (TIE), for
    the most accurate at radius 0.

    shared: one threshold for all scales. min_accuracy: certified accuracy at radius 0 that must be kept; None: the
    finest scale's alone on the same votes, less FLOOR_SLACK. Under plurality the finest threshold has no meaning and
    stays at 1/2. progress(done, total) is called after each candidate. The file's own plan, thresholds and final have
    no part in it. Raises DataError when no candidate keeps min_accuracy, with the best that one reaches.
    """
    curves: dict[Thresholds, Curve] = {}

    def goal(curve: Curve) -> float:
        return curve.acr if target is None else curve.accuracy(target)

    def judge(candidates: Sequence[Thresholds]) -> None:
        fresh = [candidate for candidate in candidates if candidate not in curves]
        for done, candidate in enumerate(fresh, start=1):
            curves[candidate] = best_curve(votes, candidate, final)
            progress(done, len(fresh))

    floor = finest_accuracy(votes, final) - FLOOR_SLACK if min_accuracy is None else min_accuracy
    levels = len(votes.sigmas)
    fixed = 1 if final == "plurality" else 0  # levels whose threshold has no meaning
    judge([_with_finest((t,) * (levels - fixed), fixed) for t in CANDIDATES])
    if not shared and len(CANDIDATES) ** (levels - fixed) <= EXHAUSTIVE:
        judge([_with_finest(candidate, fixed) for candidate in itertools.product(CANDIDATES, repeat=levels - fixed)])
    elif not shared:
        _climb(curves, judge, lambda curve: (curve.accuracy(0.0) >= floor, goal(curve)), range(fixed, levels))

    return _choose(curves, goal, floor, required=min_accuracy is not None)


def _choose(curves: dict[Thresholds, Curve], goal: Callable[[Curve], float], floor: float, *, required: bool) -> Choice:
    """Of what was judged, the best that keeps the floor. required: raise DataError when none does."""
    candidates = tuple(sorted(curves))
    keeping = [candidate for candidate in candidates if curves[candidate].accuracy(0.0) >= floor]
    most = max(candidates, key=lambda candidate: (curves[candidate].accuracy(0.0), goal(curves[candidate])))
    if required and not keeping:
        raise DataError(
            f"min-accuracy: expected at most {curves[most].accuracy(0.0):.4g}, which thresholds {_name(most)} reach on "
            f"these votes (ACR {curves[most].acr:.4f}), got {floor:g}"
        )

    def preferred(of: Sequence[Thresholds]) -> Thresholds:
        enough = max(goal(curves[candidate]) for candidate in of) * (1.0 - TIE)
        near = [candidate for candidate in of if goal(curves[candidate]) >= enough]
        return max(
            near,
            key=lambda candidate: (curves[candidate].accuracy(0.0), goal(curves[candidate]), curves[candidate].acr),
        )

    return Choice(
        candidates=candidates,
        curves=tuple(curves[candidate] for candidate in candidates),
        chosen=candidates.index(preferred(keeping) if keeping else most),
        unconstrained=candidates.index(preferred(candidates)),
        floor=floor,
        kept=bool(keeping),
    )


def best_curve(votes: VotesFile, thresholds: Sequence[float], final: Final) -> Curve:
    """Policy "best" with these thresholds, planned from each pilot."""
    cascade = votes.cascade(thresholds, final)
    counts, alpha = votes.counts(), float(votes.alpha)
    outcomes = []
    for pilot, rows in zip(votes.pilot, counts, strict=True):
        plan = plan_from_pilot(cascade, pilot.tolist(), alpha, votes.samples)
        outcomes.append(best(rows, plan.label, cascade, alpha, plan.weights))
    return curve_of_outcomes("best", cascade, outcomes, votes, name=_name(thresholds))


def finest_accuracy(votes: VotesFile, final: Final) -> float:
    """Certified accuracy at radius 0 of the finest scale alone (Cohen, Rosenfeld and Kolter 2019), on these votes."""
    alone, alpha = votes.alone(0, final), float(votes.alpha)
    outcomes = [
        single(rows[0], pilot[0], alone.sigmas[0], alpha, final, noise=alone.noises[0])
        for rows, pilot in zip(votes.counts(), votes.pilot, strict=True)
    ]
    return float(np.mean([outcome.label == truth for outcome, truth in zip(outcomes, votes.labels, strict=True)]))


def _climb(
    curves: dict[Thresholds, Curve],
    judge: Callable[[Sequence[Thresholds]], None],
    value: Callable[[Curve], tuple[float, ...]],
    levels: range,
) -> None:
    """From the best so far, change one scale's threshold at a time for as long as that helps."""
    best = max(curves, key=lambda candidate: value(curves[candidate]))
    while True:
        began = best
        for level in reversed(levels):
            judge([(*best[:level], t, *best[level + 1 :]) for t in CANDIDATES])
            best = max(curves, key=lambda candidate: value(curves[candidate]))
        if best == began:
            return


def _with_finest(thresholds: Thresholds, fixed: int) -> Thresholds:
    return (0.5,) * fixed + thresholds


def _name(thresholds: Sequence[float]) -> str:
    return ",".join(f"{t:g}" for t in thresholds)
