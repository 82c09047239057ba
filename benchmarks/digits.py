"""Measure a bundle on the held-out part and write its card.

    python -m benchmarks.digits digits --samples 10000 [--bundle NAME-OR-FOLDER] [--work FOLDER]

Stopped and started again, it goes on from the votes already drawn.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cost import size
from benchmarks.digits_card import write_card
from certify.models.bundle import Manifest, find_bundle, load_manifest, save_manifest
from certify.models.train.config import TrainConfig
from certify.models.train.protocols import Final, cascade, reference, shares, single_scale, summary
from certify.models.train.runs import find_run
from certify.models.train.stage import log
from certify.models.train.votes import Votes, collect, runtime

__all__ = ("evaluate", "figures")


def evaluate(config: TrainConfig, folder: Path, samples: int, work: Path, log: Callable[[str], None]) -> dict[str, Any]:
    """Draw `samples` votes at each scale for each held-out image; write figures and card. Returns the figures."""
    votes = collect(
        folder, "held_out", config.report_sigmas, samples, work, log, config.max_images, undenoised=config.sigmas
    )
    log("computing the tables")
    manifest = load_manifest(folder)
    measured = {**size(folder), "runtime": runtime(manifest), **figures(config, manifest, votes, samples)}
    manifest = dataclasses.replace(manifest, figures=measured)  # outside the digest: the bundle stays the same
    save_manifest(manifest, folder)
    write_card(config, manifest, folder)
    return measured


def figures(config: TrainConfig, manifest: Manifest, votes: Votes, samples: int) -> dict[str, Any]:
    """Everything that the card states, as numbers; `samples` is the budget of each scale, and of the cascade in all."""
    classes, alpha, truth = len(manifest.classes), config.alpha, votes.truth
    final: Final = "plurality" if manifest.final == "plurality" else "threshold"
    levels = [votes.sigmas.index(sigma) for sigma in manifest.sigmas]
    every = range(len(votes.sigmas))
    bare = votes._replace(estimation=votes.undenoised)
    halves = [0.5] * len(levels)

    rows: dict[str, dict[str, Any]] = {}
    for rule in ("threshold", "plurality"):
        for k in every:
            outcomes = single_scale(
                votes, k, classes, samples, alpha, "plurality" if rule == "plurality" else "threshold"
            )
            rows[f"single {votes.sigmas[k]:g} {rule}"] = summary(outcomes, truth)
    for k in levels:
        outcomes = single_scale(bare, k, classes, samples, alpha, "plurality")
        rows[f"no denoiser {votes.sigmas[k]:g}"] = summary(outcomes, truth)
    rows["reference"] = summary(reference(votes, levels, classes, samples, alpha), truth)
    untuned = cascade(votes, levels, classes, samples, alpha, halves, "threshold", manifest.chunk)
    rows["untuned"] = summary(untuned, truth)
    tuned = cascade(votes, levels, classes, samples, alpha, manifest.thresholds, final, manifest.chunk)
    rows["cascade"] = summary(tuned, truth)
    return {
        "part": "held_out",
        "images": len(truth),
        "samples": samples,
        "alpha": alpha,
        "clean_accuracy": float(np.mean(votes.plain == truth)),
        "shares": {f"{votes.sigmas[k]:g}": shares(votes, k, classes, samples) for k in every},
        "rows": rows,
    }


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digits", description=__doc__)
    parser.add_argument("run", choices=["digits"])
    parser.add_argument("--samples", type=int, default=10_000, help="draws a scale (default: %(default)s)")
    parser.add_argument("--bundle", help="a shipped bundle's name or a folder (default: the run's name)")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="folder for drawn votes (default: runs)")
    arguments = parser.parse_args()
    config = find_run(arguments.run)
    assert isinstance(config, TrainConfig)
    evaluate(config, find_bundle(arguments.bundle or config.name), arguments.samples, arguments.work, log)


if __name__ == "__main__":
    main()
