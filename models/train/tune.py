"""Choose each scale's threshold on the tuning part, never on the held-out one.

With thresholds near 1 a coarse scale neither decides nor blocks, so the choice contains every single scale as a limit.
Two rounds: all candidates by what their certificates would be if every scale got the whole budget (no sampling, so
hundreds of candidates take seconds), then the best few by the service's own state machine.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ...service.core import Cascade, clopper_pearson_lower, clopper_pearson_upper
from ..bundle import load_manifest, save_manifest
from .config import TrainConfig
from .protocols import Final, Outcome, cascade, single_scale, summary
from .votes import Votes, collect

__all__ = ("tune",)

FINALISTS = 8  # for the second round, at 2 to 3 s each
ACCURACY_SLACK = (
    0.005  # certified accuracy at 0 may fall this far below the best single scale's: half of what is allowed
)


def tune(config: TrainConfig, folder: Path, checkpoints: Path, log: Callable[[str], None]) -> tuple[float, ...]:
    """Draw votes on the tuning part, choose, and write the thresholds into the bundle's manifest."""
    manifest = load_manifest(folder)
    votes = collect(folder, "tune", config.sigmas, config.tune_samples, checkpoints, log, config.max_images)
    # The drawn frequencies, repeated to the budget's length: the choice is for that many draws, and drawing them all
    # would take longer than the training.
    repeats = -(-config.samples // votes.estimation.shape[2])
    votes = votes._replace(estimation=np.tile(votes.estimation, (1, 1, repeats))[:, :, : config.samples])
    chosen = choose(config, votes, len(manifest.classes), manifest.chunk, log)
    save_manifest(dataclasses.replace(manifest, sigmas=config.sigmas, thresholds=chosen), folder)
    return chosen


def choose(
    config: TrainConfig, votes: Votes, classes: int, chunk: int, log: Callable[[str], None]
) -> tuple[float, ...]:
    """The thresholds with the largest average certified radius that keep the accuracy at radius 0."""
    final: Final = "plurality" if config.final == "plurality" else "threshold"
    levels = range(len(config.sigmas))
    samples = votes.estimation.shape[2]
    singles = [summary(single_scale(votes, k, classes, samples, config.alpha, final), votes.truth) for k in levels]
    floor = max(s["accuracy"]["0"] for s in singles) - ACCURACY_SLACK
    candidates = list(_candidates(config, final))
    bounds = [_bounds(votes, image, classes, config.alpha) for image in range(len(votes.truth))]

    def score(found: list[Outcome]) -> tuple[bool, float]:
        measured = summary(found, votes.truth)
        return measured["accuracy"]["0"] >= floor, measured["acr"]

    screened = sorted(candidates, key=lambda t: score(_certificates(config, final, t, bounds)), reverse=True)
    best: tuple[tuple[bool, float], tuple[float, ...]] | None = None
    for thresholds in screened[:FINALISTS]:
        value = score(cascade(votes, list(levels), classes, samples, config.alpha, thresholds, final, chunk))
        verdict = "kept" if value[0] else "lost"
        log(f"thresholds {thresholds}: average certified radius {value[1]:.4f}, accuracy at 0 {verdict}")
        if best is None or value > best[0]:
            best = (value, thresholds)
    assert best is not None
    return best[1]


def _candidates(config: TrainConfig, final: Final) -> Iterator[tuple[float, ...]]:
    """Every combination; the finest scale's threshold has no meaning under plurality and stays at 1/2."""
    finest = (0.5,) if final == "plurality" else config.candidate_thresholds
    return itertools.product(finest, *[config.candidate_thresholds] * (len(config.sigmas) - 1))


Bounds = dict[int, tuple[list[float], list[float]]]  # label -> (lower, upper) at each scale


def _bounds(votes: Votes, image: int, classes: int, alpha: float) -> Bounds:
    """Bounds for every class that leads at some scale, each scale at its full number of draws."""
    samples = votes.estimation.shape[2]
    counts = [votes.counts(image, k, classes, 0, samples) for k in range(len(votes.sigmas))]
    found: Bounds = {}
    for label in {int(np.argmax(c)) for c in counts}:
        rivals = [max(n for other, n in enumerate(c) if other != label) for c in counts]
        lower = [clopper_pearson_lower(c[label], samples, alpha) for c in counts]
        found[label] = lower, [clopper_pearson_upper(rival, samples, alpha) for rival in rivals]
    return found


def _certificates(
    config: TrainConfig, final: Final, thresholds: tuple[float, ...], bounds: list[Bounds]
) -> list[Outcome]:
    """The largest certificate of any leading class, image by image."""
    rule = Cascade.of(config.sigmas, thresholds, final)
    outcomes = []
    for of_image in bounds:
        radius, label = max((rule.certify(*pair).radius, label) for label, pair in of_image.items())
        outcomes.append(Outcome(label if radius > 0 else None, radius, 0))
    return outcomes
