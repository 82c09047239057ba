"""The shipped cifar10 bundle's thresholds, chosen anew, and its card.

    python -m benchmarks.cifar10_thresholds --data DIR

DIR holds train.npz and test.npz. Votes of the first training images, which training held aside, choose; votes of the
first test images judge. It writes thresholds, figures and card into models/bundles/cifar10 and a part of
docs/results.md; the networks stay as they are. Stopped and started again it goes on from the votes already drawn.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

import numpy as np

from benchmarks.cards import figures, here, listed, publish
from benchmarks.cifar10 import RADII, card, retuned, rows_of
from benchmarks.report import table
from benchmarks.tables import CURVES, ROOT, named, write
from benchmarks.votes import adaptive, votes_of
from certify.models.bundle import BUNDLES, load_manifest, save_manifest
from certify.models.datasets import open_dataset
from certify.models.train.stage import log
from certify.service.core import clopper_pearson_lower, clopper_pearson_upper
from certify.service.research.curves import Curve, draw, markdown
from certify.service.research.threshold_choice import Choice, best_curve, tune
from certify.service.research.votes_file import VotesFile

FOLDER = BUNDLES / "cifar10"
HELD_ASIDE = 500  # the first training images, which no network has seen
CONFIDENCE = 0.95  # of each interval by itself, two-sided
NORMAL = 1.96  # the same for a mean


def interval(curve: Curve, radius: float) -> str:
    """Certified accuracy at a radius with its exact interval (Clopper and Pearson 1934), over images."""
    hits, n, tail = int(np.sum(curve.correct & (curve.radius >= radius))), len(curve.radius), (1 - CONFIDENCE) / 2
    low, high = clopper_pearson_lower(hits, n, tail), clopper_pearson_upper(hits, n, tail)
    return f"{hits / n:.3f} ({low:.3f} to {high:.3f})"


def acr_interval(curve: Curve) -> str:
    """The average certified radius with its interval by the normal approximation over images."""
    radii = np.where(curve.correct, curve.radius, 0.0)
    half = NORMAL * float(radii.std(ddof=1)) / math.sqrt(len(radii))
    return f"{curve.acr:.4f} +- {half:.4f}"


def trade(choice: Choice, tuning: VotesFile, judging: VotesFile) -> str:
    """What the choice is between, on the images that choose and on those that judge."""
    coarser = len(tuning.sigmas) - 1
    kinds = {
        "chosen": choice.candidates[choice.chosen],
        "largest ACR, no floor": choice.candidates[choice.unconstrained],
        "all at .5": (0.5,) * (coarser + 1),
        "coarse scales never": (0.5, *(0.99,) * coarser),
    }
    rows = [
        [name, listed(thresholds), f"{len(votes.idx)} {where}", *(interval(curve, r) for r in (0.0, 0.25, 0.5))]
        + [acr_interval(curve)]
        for votes, where in ((tuning, "training"), (judging, "test"))
        for name, thresholds in kinds.items()
        for curve in [best_curve(votes, thresholds, "plurality")]
    ]
    return table(["", "thresholds", "images", "0", "0.25", "0.5", "ACR"], rows)


def ship(choice: Choice, tuning: VotesFile, judging: VotesFile) -> None:
    """Thresholds, figures and card into the bundle, and the part of docs/results.md."""
    thresholds = choice.candidates[choice.chosen]
    save_manifest(dataclasses.replace(load_manifest(FOLDER), thresholds=thresholds, final="plurality"), FOLDER)
    rows = rows_of(judging, thresholds, "shipped")
    replayed = adaptive(judging, judging.samples, list(thresholds), "plurality")
    rows.append(named(replayed, f"shipped: {replayed.name}"))
    chose = (
        f"Chosen on {len(tuning.idx)} training images held aside, N = {tuning.samples} at each scale, for the largest "
        f"ACR of the choices, out of {len(choice.candidates)}, whose certified accuracy at 0 is at least "
        f"{choice.floor:.3f} there: the finest scale's alone, less .02."
    )
    counts = f"--tune-images {len(tuning.idx)} --judge-images {len(judging.idx)}"
    made = f"`python -m benchmarks.cifar10_thresholds --data DIR {counts}`, {judging.runtime} ({here()})"
    text = (
        f"{chose} Judged on {len(judging.idx)} test images, N = {judging.samples} at each scale, alpha = "
        f"{float(judging.alpha):g}: {made}. Intervals are exact, of {CONFIDENCE:.0%} each by itself; of an ACR, by the "
        f"normal approximation.\n\n{trade(choice, tuning, judging)}\n\n{markdown(rows, RADII)}\n\n"
        "![certified accuracy](curves/cifar10_thresholds.svg)"
    )
    write("cifar10_thresholds", text)
    shown = [r for r in rows if r.policy == "best" or (r.policy, r.final) == ("single", "plurality")]
    draw(
        shown, CURVES / "cifar10_thresholds.png", title=f"CIFAR-10 (JPEG), {len(judging.idx)} test images, CPU-trained"
    )
    measured = figures(FOLDER, judging, rows, RADII, {"finetuned": False})
    text = card(load_manifest(FOLDER), measured, rows, "CPU-trained", f"{chose} By {made}.", None)
    manifest = publish(FOLDER, measured, text)
    log(f"wrote {FOLDER.relative_to(ROOT)}: thresholds {listed(thresholds)}, {manifest.digest}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cifar10_thresholds", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--data", type=Path, required=True, help="folder with train.npz and test.npz")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "cifar10_thresholds", help="default: %(default)s")
    parser.add_argument("--tune-images", type=int, default=200, help="that choose (default: %(default)s)")
    parser.add_argument("--judge-images", type=int, default=100, help="that judge (default: %(default)s)")
    # The share of votes says which threshold an image passes; twice as many images tell more than twice as many draws.
    parser.add_argument("--tune-samples", type=int, default=480, help="at each scale, to choose (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=992, help="at each scale, to judge (default: %(default)s)")
    parser.add_argument("--votes-only", action="store_true", help="draw, and change nothing")
    arguments = parser.parse_args()
    if arguments.tune_images > HELD_ASIDE:
        parser.error(f"--tune-images: expected at most {HELD_ASIDE}, which training held aside")
    data, work = arguments.data.resolve(), arguments.work.resolve()
    # Votes are drawn at thresholds of .5: a bundle that has its new thresholds has the same votes in its file.
    untuned = retuned(FOLDER, (0.5,) * len(load_manifest(FOLDER).sigmas), work / "untuned")
    train, test = open_dataset(str(data / "train.npz")), open_dataset(str(data / "test.npz"))
    count = arguments.tune_samples
    tuning = votes_of(train, untuned, work / f"tune-{count}.npz", count, limit=arguments.tune_images)
    count = arguments.samples
    judging = votes_of(test, untuned, work / f"judge-{count}.npz", count, limit=arguments.judge_images)
    if not arguments.votes_only:
        ship(tune(tuning, target=None, shared=False, final="plurality"), tuning, judging)


if __name__ == "__main__":
    main()
