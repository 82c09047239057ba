"""The tables and curves of docs/results.md, on the digits bundle. Long: it draws millions of votes, and goes on after
a stop without repeating any.

    python -m benchmarks.results held-out     every policy at N = 10,000 on all held-out images; one p0 from .5 to .9
    python -m benchmarks.results ablation     fine-tuning, 3 seeds each, 150 images at N = 2,000
    python -m benchmarks.results winner       the best fine-tuned bundle against the plain one, all images, N = 10,000
                                              (--samples for another N)
    python -m benchmarks.results cost         samples and seconds of each policy, side by side

Each writes its part of docs/results.md, between its two marks, and pictures into docs/curves/. Votes and fine-tuned
bundles are kept in runs/results.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.cards import here, listed
from benchmarks.report import table
from benchmarks.tables import CURVES, ROOT, costs, named, only, spread, write
from benchmarks.votes import SLACK, adaptive, choose, majorities, votes_of
from certify.models.datasets import open_dataset
from certify.service.research.curves import Curve, curves_of_votes, markdown
from certify.service.research.figures import draw
from certify.service.research.threshold_choice import best_curve
from certify.service.research.votes_file import VotesFile

WORK = ROOT / "runs" / "results"
SEEDS = (1, 2, 3)  # of fine-tuning
ABLATION_RADII = (0.0, 0.25, 0.5, 0.75)
RUNS = ("digits_cross_entropy", "digits_brier", "digits_brier_anti", "digits_classifier")
NAMES = {
    "none": "none",
    "digits_cross_entropy": "cross-entropy",
    "digits_brier": "Brier",
    "digits_brier_anti": "Brier + anti-consistency",
    "digits_classifier": "classifier fine-tuned",
}

PLAIN = "digits_plain"  # what the fine-tunings begin from


def drawn(bundle: str, part: str, samples: int, limit: int | None = None) -> VotesFile:
    name = Path(bundle).parent.name if "/" in bundle else bundle
    path = WORK / f"{part}-{name}-{samples}.npz"
    return votes_of(open_dataset("digits", part=part), bundle, path, samples, limit=limit)


def _drawn_in(votes: VotesFile) -> str:
    return f"alpha = {float(votes.alpha):g}, in {votes.runtime} ({here()})"


def finetuned(run: str, seed: int) -> str:
    """The bundle's folder; trained now if it is not there."""
    work = ROOT / "runs" / f"{run}-seed{seed}"
    if not (work / "bundle" / "bundle.json").exists():
        command = [sys.executable, "-m", "certify", "train", run, "--seed", str(seed), "--work", str(work)]
        subprocess.run(command, check=True, cwd=ROOT)
    return str(work / "bundle")


def tuned_thresholds(bundle: str) -> tuple[float, ...]:
    """For ACR, on the tuning part's votes, keeping the accuracy at 0 of the best single scale there."""
    return choose(drawn(bundle, "tune", 2_000))[0]


def held_out() -> str:
    votes = drawn("digits", "held_out", 10_000)
    halves, chosen = [0.5] * len(votes.sigmas), tuned_thresholds("digits")
    singles = [c for c in curves_of_votes(votes) if c.policy == "single"]
    untuned = curves_of_votes(votes, thresholds=halves, final="threshold", singles=False)
    tuned = curves_of_votes(votes, thresholds=chosen, final="plurality", singles=False)
    published = [named(c, f"{c.name}, p0 = .5") for c in untuned]
    rows = [*singles, *published, *(named(c, f"{c.name}, tuned") for c in tuned)]
    rows += [adaptive(votes, samples, list(chosen), "plurality") for samples in (10_000, 3_000)]
    shown = [c for c in singles if c.final == "plurality"]
    shown += [c for c in published if c.policy in ("best", "first", "reference")]
    shown += [named(c, "best, tuned") for c in tuned if c.policy == "best"]
    draw(shown, CURVES / "digits-policies.png", title=f"digits, {len(votes.idx)} held-out images")
    return "\n\n".join(
        [
            f"{len(votes.idx)} held-out images, N = {votes.samples} at each scale visited, {_drawn_in(votes)}. "
            f"Thresholds tuned on the tuning part for ACR: {listed(chosen)} (fine to coarse), finest by plurality. "
            "`reference` is as published, not proved at alpha.",
            markdown(rows),
            _comparison(untuned, tuned, singles),
            "![certified accuracy against radius](curves/digits-policies.svg)",
            "**One p0 for all scales**, finest scale by threshold as published, `best` by plurality too.",
            markdown(_sweep(votes)),
        ]
    )


def _sweep(votes: VotesFile) -> list[Curve]:
    """One p0 for all scales."""
    rows = []
    for p0 in (0.5, 0.6, 0.7, 0.8, 0.9):
        thresholds = [p0] * len(votes.sigmas)
        by_threshold = curves_of_votes(votes, thresholds=thresholds, final="threshold", singles=False)
        rows += [named(c, f"{c.name}, p0 = {p0:g}") for c in by_threshold if c.policy != "max-radius"]
        rows.append(named(best_curve(votes, thresholds, "plurality"), f"best, plurality, p0 = {p0:g}"))
    return rows


def _comparison(untuned: list[Curve], tuned: list[Curve], singles: list[Curve]) -> str:
    """The gains, whatever they are."""
    single = max(singles, key=lambda curve: curve.acr)
    lines = []
    for curves, what in ((untuned, "p0 = .5"), (tuned, "tuned")):
        best, first, published = (only(curves, policy) for policy in ("best", "first", "reference"))
        below = int((best.radius < first.radius).sum())
        lines.append(
            f"At {what}, `best` has ACR {best.acr:.4f}: {best.acr / first.acr - 1:+.1%} against `first`, "
            f"{best.acr / published.acr - 1:+.1%} against `reference`, {best.acr / single.acr - 1:+.1%} against "
            f"the best single scale ({single.name}); it is below `first` on {below} images."
        )
    return " ".join(lines)


def ablation() -> str:
    files: dict[str, list[VotesFile]] = {"none": [drawn(PLAIN, "held_out", 2_000, 150)]}
    for run in RUNS:
        files[run] = [drawn(finetuned(run, seed), "held_out", 2_000, 150) for seed in SEEDS]
    rows, shares = [], []
    for run, found in files.items():
        rows += [_ablated(run, policy, found) for policy in ("best", "reference")]
        for level, sigma in enumerate(found[0].sigmas.tolist()):
            right, wrong, nobody = zip(*(majorities(votes, level) for votes in found), strict=True)
            shares.append([NAMES[run], f"{sigma:g}", spread(right), spread(wrong), spread(nobody)])
    first = files["none"][0]
    head = ["fine-tuning", "policy", *(f"{r:g}" for r in ABLATION_RADII), "ACR", "abstained", "clean accuracy"]
    return "\n\n".join(
        [
            f"{len(first.idx)} held-out images, N = {first.samples} at each scale, {_drawn_in(first)}; "
            f"{len(SEEDS)} seeds of fine-tuning each (mean +- standard deviation; `none` is one bundle). `best` at the "
            "bundle's own thresholds, `reference` at p0 = .5.",
            table(head, rows),
            "**Over-confidence and over-smoothing**: the share of the same images on which a class has more than half "
            "of the draws.",
            table(["fine-tuning", "sigma", "the true class", "a wrong class", "no class"], shares),
        ]
    )


def _ablated(run: str, policy: str, found: list[VotesFile]) -> list[str]:
    """A row: `best` at the bundle's own thresholds, `reference` at p0 = .5."""
    curves = []
    for votes in found:
        halves = [0.5] * len(votes.sigmas)
        of = (
            curves_of_votes(votes, singles=False)
            if policy == "best"
            else curves_of_votes(votes, thresholds=halves, final="threshold", singles=False)
        )
        curves.append(only(of, policy))
    cells = [spread([curve.accuracy(r) for curve in curves]) for r in ABLATION_RADII]
    cells += [spread([c.acr for c in curves], 4), spread([c.abstention for c in curves])]
    return [NAMES[run], policy, *cells, spread([float(np.mean(v.plain == v.labels)) for v in found])]


def _winner() -> str:
    """The fine-tuning with the largest mean ACR of `best` in the ablation."""

    def acr(run: str) -> float:
        files = [drawn(finetuned(run, seed), "held_out", 2_000, 150) for seed in SEEDS]
        return statistics.mean(only(curves_of_votes(votes, singles=False), "best").acr for votes in files)

    return max(RUNS, key=acr)


def _lead(old: Curve, new: Curve, picked_by: NDArray[np.bool_]) -> str:
    """Of `new` over `old`, image by image. picked_by: the images that chose `new`."""
    gain = new.correct * new.radius - old.correct * old.radius
    parts = [
        f"{part.mean():+.4f} with a standard error of {part.std(ddof=1) / len(part) ** 0.5:.4f} on {name} {len(part)}"
        for name, part in (("all", gain), ("the other", gain[~picked_by]))
    ]
    return f"Image by image the lead is {parts[0]} images, and {parts[1]}, by which it was not picked."


def winner(samples: int = 10_000) -> str:
    run = _winner()
    bundle = finetuned(run, SEEDS[0])
    plain, better = drawn(PLAIN, "held_out", samples), drawn(bundle, "held_out", samples)
    picked_by = np.isin(plain.idx, drawn(PLAIN, "held_out", 2_000, 150).idx)
    chosen = tuned_thresholds(bundle)
    budgets = (samples, samples * 3 // 10)
    rows: list[Curve] = []
    best: list[tuple[VotesFile, Curve]] = []
    for name, votes, thresholds in (
        ("plain", plain, plain.thresholds.tolist()),
        ("fine-tuned, the plain one's thresholds", better, better.thresholds.tolist()),
        ("fine-tuned, tuned anew", better, list(chosen)),
    ):
        # Single scales have no thresholds: those of the fine-tuned bundle are shown once.
        fresh = all(votes is not before for before, _ in best)
        curves = curves_of_votes(votes, thresholds=thresholds, final="plurality", singles=fresh)
        curves = [c for c in curves if (c.policy, c.final) != ("single", "threshold")]
        best.append((votes, named(only(curves, "best"), f"{name}: best")))
        curves += [adaptive(votes, budget, thresholds, "plurality") for budget in budgets]
        rows += [named(c, f"{name}: {c.name}") for c in curves]
    old, *others = (curve for _, curve in best)
    new = max(others, key=lambda curve: curve.acr)
    ships = new.acr > old.acr and new.accuracy(0.0) >= old.accuracy(0.0) - SLACK
    draw([old, new], CURVES / "digits-finetuned.png", title="digits, before and after fine-tuning")
    return "\n\n".join(
        [
            f"The winner of the ablation is {NAMES[run]} (seed {SEEDS[0]}); {len(better.idx)} held-out images, "
            f"N = {better.samples}, {_drawn_in(better)}. Thresholds tuned anew: {listed(chosen)}.",
            markdown(rows),
            f"`best` goes from ACR {old.acr:.4f} to {new.acr:.4f} ({new.name.split(':')[0]}), certified accuracy at 0 "
            f"from {old.accuracy(0.0):.3f} to {new.accuracy(0.0):.3f}: the rule for shipping it (a larger ACR, at most "
            f"half a point lost at 0) is {'met' if ships else 'not met'}. {_lead(old, new, picked_by)}",
            "![before and after fine-tuning](curves/digits-finetuned.svg)",
        ]
    )


def cost(images: int = 20) -> str:
    return asyncio.run(costs(open_dataset("digits").part(limit=images), "digits"))


PARTS: dict[str, Callable[[], str]] = {"held-out": held_out, "ablation": ablation, "winner": winner, "cost": cost}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="+", choices=list(PARTS), help="which")
    parser.add_argument("--samples", type=int, default=10_000, help="of winner, at each scale (default: %(default)s)")
    given = parser.parse_args()
    for name in given.parts:
        text = winner(given.samples) if name == "winner" else PARTS[name]()
        print(text)
        write(name, text)


if __name__ == "__main__":
    main()
