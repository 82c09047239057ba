"""Thresholds chosen on a validation set's votes, never on those that they will be judged by.

Near 1, a coarse scale neither decides nor blocks, so a choice for each scale contains every single scale as a limit.
Two rounds: all candidates with equal weights (bounds are computed once, so a thousand candidates take seconds), then
the best few exactly as policy "best" certifies them, planned from each pilot. Both are valid certificates.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...models.bundle import Final
from ..core import Cascade
from ..core.certificate import level_bounds
from ..errors import DataError
from .curves import Curve, curve_of_outcomes, plans_of
from .policies import Outcome, certify
from .votes_file import VotesFile

__all__ = ("CANDIDATES", "Choice", "best_curve", "check_split", "tune")

# In steps of .05, and .99: "never".
CANDIDATES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
FINALISTS = 12  # replanned for each image: 1 to 3 s each
_JUDGED = {"test", "heldout", "judge", "eval"}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """candidates[i] scored screened[i] in round one. `chosen` is the best of the finalists, measured by round two."""

    candidates: tuple[tuple[float, ...], ...]
    screened: tuple[Curve, ...]
    finalists: tuple[tuple[int, Curve], ...]  # (index into candidates, round two), best first

    @property
    def chosen(self) -> int:
        return self.finalists[0][0]


def check_split(validation: VotesFile, judge: VotesFile | None = None) -> None:
    """Raise DataError if these votes are of images that a choice must not see."""
    words = set(re.split(r"[^a-z]+", f"{validation.data} {validation.split}".lower().replace("held_out", "heldout")))
    if found := words & _JUDGED:
        raise DataError(
            f"votes: expected a validation split, got {validation.data}, {validation.split} ({found.pop()}): "
            "thresholds chosen on the images that they are judged by would be flattered"
        )
    if judge is None:
        return
    if validation.bundle_digest != judge.bundle_digest:
        raise DataError("judge: expected votes of the same bundle")
    if validation.data_digest == judge.data_digest and set(validation.idx.tolist()) & set(judge.idx.tolist()):
        raise DataError("judge: expected other images than those of the choice, and some are in both files")


def tune(votes: VotesFile, *, target: float | None, shared: bool, final: Final, min_accuracy: float = 0.0) -> Choice:
    """Choose for the largest certified accuracy at radius `target`, or (None) the largest ACR.

    shared: one threshold for all scales. min_accuracy: certified accuracy at 0 that must be kept, where a candidate
    keeps it. Under plurality the finest threshold has no meaning and stays at 1/2.
    """
    levels = len(votes.sigmas)
    finest = (0.5,) if final == "plurality" else CANDIDATES
    if shared:
        first = [0.5] if final == "plurality" else []
        candidates = tuple((*first, *[t] * (levels - len(first))) for t in CANDIDATES)
    else:
        candidates = tuple(itertools.product(finest, *[CANDIDATES] * (levels - 1)))

    def value(curve: Curve) -> tuple[bool, float, float]:
        goal = curve.acr if target is None else curve.accuracy(target)
        return curve.accuracy(0.0) >= min_accuracy, goal, curve.acr

    screened = _screen(votes, candidates, final)
    order = sorted(range(len(candidates)), key=lambda i: value(screened[i]), reverse=True)[:FINALISTS]
    finalists = [(i, best_curve(votes, candidates[i], final)) for i in order]
    finalists.sort(key=lambda pair: value(pair[1]), reverse=True)
    return Choice(candidates=candidates, screened=tuple(screened), finalists=tuple(finalists))


def best_curve(votes: VotesFile, thresholds: Sequence[float], final: Final) -> Curve:
    """Policy "best" with these thresholds, planned from each pilot."""
    cascade = Cascade.of(votes.sigmas.tolist(), list(thresholds), final)
    counts, alpha = votes.counts(), float(votes.alpha)
    plans = plans_of(votes, cascade)
    outcomes = [certify("best", counts[i], votes.pilot[i], plans[i], cascade, alpha) for i in range(len(votes.idx))]
    return curve_of_outcomes("best", cascade, outcomes, votes, name=_name(thresholds))


def _screen(votes: VotesFile, candidates: Sequence[tuple[float, ...]], final: Final) -> list[Curve]:
    sigmas, counts, alpha = votes.sigmas.tolist(), votes.counts(), float(votes.alpha)
    levels = len(sigmas)
    splits = Cascade.of(sigmas, 0.5, final).error_split([1 / levels] * levels)
    bounds = []
    for i, label in enumerate(votes.label.tolist()):
        rows = counts[i]
        pairs = [
            level_bounds(int(row[label]), int(np.delete(row, label).max()), int(row.sum()), (alpha * low, alpha * up))
            for row, (low, up) in zip(rows, splits, strict=True)
        ]
        bounds.append(([low for low, _ in pairs], [up for _, up in pairs]))
    curves = []
    for thresholds in candidates:
        cascade = Cascade.of(sigmas, thresholds, final)
        outcomes = []
        for label, (lower, upper) in zip(votes.label.tolist(), bounds, strict=True):
            found = cascade.certify(lower, upper)
            said = label if found.radius > 0 else None
            outcomes.append(Outcome(label=said, radius=found.radius, level=found.level, visited=levels))
        curves.append(curve_of_outcomes("best", cascade, outcomes, votes, name=_name(thresholds)))
    return curves


def _name(thresholds: Sequence[float]) -> str:
    return ",".join(f"{t:g}" for t in thresholds)
