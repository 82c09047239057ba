"""Protocols that turn draws into certificates, and what the card says of each: all over the same votes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...service.core import Cascade, Certifier
from ...service.research import policies
from ..runtime import RuntimeOptions
from .votes import Votes

__all__ = ("RADII", "Outcome", "cascade", "reference", "shares", "single_scale", "summary")

RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
SELECTION = 100  # N0 of Cohen et al. 2019 and of the paper
Final = Literal["plurality", "threshold"]


class Outcome(NamedTuple):
    """What a protocol said about one image."""

    label: int | None  # None = abstained
    radius: float
    draws: int


def single_scale(votes: Votes, level: int, classes: int, samples: int, alpha: float, final: Final) -> list[Outcome]:
    """Cohen et al.'s CERTIFY at one scale: N0 draws choose the class, `samples` others bound it."""
    outcomes = []
    for image in range(len(votes.truth)):
        pilot = votes.counts(image, level, classes, 0, SELECTION, pilot=True)
        row = votes.counts(image, level, classes, 0, samples)
        found = policies.single(np.array(row), np.array(pilot), votes.sigmas[level], alpha, final)
        outcomes.append(Outcome(found.label, found.radius, SELECTION + samples))
    return outcomes


def reference(votes: Votes, levels: Sequence[int], classes: int, samples: int, alpha: float) -> list[Outcome]:
    """The paper's protocol (arXiv 2310.16779): coarsest first, N0 + N draws at each visited scale, threshold 1/2.

    A scale decides if its class's lower bound passes 1/2, is passed if every class's upper bound is below 1/2, and
    ends in abstention if neither; stage i uses alpha / (i + 1). Here with exact Clopper-Pearson bounds (the paper's
    code has Goodman's, which are asymptotic). `levels`: indices into votes.sigmas, finest first.
    """
    rule = Cascade.of([votes.sigmas[level] for level in levels], 0.5, "threshold")
    outcomes = []
    for image in range(len(votes.truth)):
        pilot = [votes.counts(image, level, classes, 0, SELECTION, pilot=True) for level in levels]
        counts = [votes.counts(image, level, classes, 0, samples) for level in levels]
        found = policies.reference(np.array(counts), np.array(pilot), rule, alpha)
        outcomes.append(Outcome(found.label, found.radius, found.visited * (SELECTION + samples)))
    return outcomes


def cascade(
    votes: Votes,
    levels: Sequence[int],
    classes: int,
    samples: int,
    alpha: float,
    thresholds: Sequence[float],
    final: Final,
    chunk: int,
) -> list[Outcome]:
    """The service's own state machine, `samples` draws in all. `levels`: indices into votes.sigmas, finest first."""
    outcomes = []
    for image in range(len(votes.truth)):
        certifier = Certifier(
            [votes.sigmas[level] for level in levels],
            classes,
            alpha=alpha,
            threshold=list(thresholds),
            final=final,
            samples=samples,
            chunk=chunk,
            grain=RuntimeOptions().micro_batch,  # as the service asks
        )
        while (query := certifier.next()) is not None:
            level, pilot = levels[query.level], query.purpose == "pilot"
            certifier.observe(query, votes.counts(image, level, classes, query.first, query.count, pilot))
        result = certifier.result()
        outcomes.append(Outcome(result.label, result.radius, result.samples_used))
    return outcomes


def summary(outcomes: Sequence[Outcome], truth: NDArray[np.int64]) -> dict[str, Any]:
    """Certified accuracy at RADII, average certified radius (0 for a wrong or missing label), abstention, draws."""
    correct = np.array([o.label == t for o, t in zip(outcomes, truth, strict=True)])
    radius = np.array([o.radius for o in outcomes])
    return {
        "accuracy": {f"{r:g}": float(np.mean(correct & (radius >= r))) for r in RADII},
        "acr": float(np.mean(correct * radius)),
        "abstained": float(np.mean([o.label is None for o in outcomes])),
        "wrong": float(np.mean([o.label is not None and not c for o, c in zip(outcomes, correct, strict=True)])),
        "draws": float(np.mean([o.draws for o in outcomes])),
    }


def shares(votes: Votes, level: int, classes: int, samples: int) -> dict[str, float]:
    """Images whose true class, and images whichever wrong class, has more than half of `samples` draws."""
    right = wrong = 0
    for image, truth in enumerate(votes.truth):
        counts = votes.counts(image, level, classes, 0, samples)
        right += 2 * counts[truth] > samples
        wrong += any(2 * n > samples for c, n in enumerate(counts) if c != truth)
    return {"true_class": right / len(votes.truth), "wrong_class": wrong / len(votes.truth)}
