"""CIFAR-10 from images to a bundle with its tables: `python -m benchmarks.cifar10 RUN --data DIR`.

RUN is cifar10 (half an hour of one H100- or H200-class GPU) or cifar10_cpu (an hour and a half of two cores with AMX).
DIR holds train.npz and test.npz. It trains what is not there yet, measures before and after fine-tuning, chooses
thresholds on training images held aside, and writes models/bundles/cifar10 with its card, and a part of
docs/results.md. Stopped and started again it goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import shutil
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.agreement import compare
from benchmarks.agreement import table as agreement_table
from benchmarks.cards import figures, here, listed, publish
from benchmarks.tables import CURVES, ROOT, costs, named, write
from benchmarks.votes import adaptive, choose, votes_of
from certify.models.bundle import BUNDLES, Manifest, file_digests, load_manifest, save_manifest
from certify.models.datasets import open_dataset
from certify.models.runtime import options_for
from certify.models.train.config import PairConfig
from certify.models.train.runs import find_run
from certify.models.train.separate import run as train
from certify.models.train.stage import log
from certify.service.answering.fields import parse_texts
from certify.service.backends import open_backend
from certify.service.research.certifiers import LocalCertifier
from certify.service.research.curves import Curve, curves_of_votes, draw, markdown
from certify.service.research.threshold_choice import best_curve
from certify.service.research.votes_file import VotesFile
from certify.service.settings import load_settings

RADII = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
PUBLISHED = """\
| published, original CIFAR-10 | 0 | 0.25 | 0.5 | 0.75 | 1 | 1.5 |
| --- | --- | --- | --- | --- | --- | --- |
| Cohen et al. 2019, ResNet-110, sigma 0.25 |  | 0.60 | 0.43 | 0.27 |  |  |
| the same, sigma 0.5 |  | 0.55 | 0.41 | 0.32 | 0.23 | 0.15 |
| the same, sigma 1.0 |  | 0.39 | 0.34 | 0.28 | 0.22 | 0.17 |
| Carlini et al. 2022 and the paper, sigma 0.25 (50 M-parameter denoiser, 98% ViT) | 0.88 to 0.895 |  |  |  |  |  |"""


def rows_of(votes: VotesFile, thresholds: tuple[float, ...], when: str) -> list[Curve]:
    """Single scales, then the policies at p0 = .5 as published and `best` at the chosen thresholds."""
    singles = [c for c in curves_of_votes(votes) if c.policy == "single"]
    halves = [0.5] * len(votes.sigmas)
    published = [
        named(c, f"{c.name}, p0 = .5")
        for c in curves_of_votes(votes, thresholds=halves, final="threshold", singles=False)
        if c.policy != "max-radius"
    ]
    tuned = [
        named(c, f"{c.name}, tuned")
        for c in curves_of_votes(votes, thresholds=thresholds, final="plurality", singles=False)
    ]
    plain = named(best_curve(votes, halves, "plurality"), "best, p0 = .5, plurality")
    return [named(c, f"{when}: {c.name}") for c in (*singles, *published, plain, *tuned)]


def compare_dtypes(folder: Path, data: Path, images: int, samples: int, device: str) -> str:
    """Votes in float32 and bfloat16 over the same noise, as a sentence and a table."""
    dataset = open_dataset(str(data / "test.npz")).part(limit=images)
    options = [dataclasses.replace(options_for(device), dtype=dtype) for dtype in ("float32", "bfloat16")]
    _, variants = compare(folder, dataset, samples, options)
    return f"Over the same noise, {images} test images, {samples} draws at each scale:\n\n{agreement_table(variants)}"


async def answer_seconds(bundle: Path, data: Path, device: str) -> tuple[float, float]:
    """Mean seconds of an answer as served, on two images: 10,000 samples, and radius .25."""
    settings = load_settings(backend="embedded", bundle=str(bundle), device=device)
    backend = open_backend(settings)
    await backend.open()
    dataset = open_dataset(str(data / "test.npz")).part(limit=2)
    seconds: list[list[float]] = [[], []]
    try:
        for position in range(len(dataset)):
            for kind, texts in enumerate(({}, {"radius": ["0.25"]})):
                one = LocalCertifier(backend, settings, parse_texts(texts), policy="best", seed=1)
                began = time.monotonic()
                await one.certify(dataset.idx[position], dataset.labels[position], dataset.read(position))
                seconds[kind].append(time.monotonic() - began)
    finally:
        await backend.close()
    return statistics.mean(seconds[0]), statistics.mean(seconds[1])


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One of the two bundles that training made, plain and finetuned."""

    when: str  # "before" or "after" fine-tuning
    folder: Path
    votes: VotesFile  # of test images
    thresholds: tuple[float, ...]  # chosen on training images held aside
    acr: float  # of `best` on those
    rows: list[Curve]


def judge(config: PairConfig, data: Path, work: Path, device: str) -> tuple[Judged, Judged]:
    """Before and after fine-tuning."""
    test, held_aside = open_dataset(str(data / "test.npz")), open_dataset(str(data / "train.npz"))
    both = []
    for when, name, samples in (
        ("before", "plain", config.samples_before),
        ("after", "finetuned", config.samples_after),
    ):
        folder = work / name
        path = work / f"test-{name}.npz"
        votes = votes_of(test, folder, path, samples, limit=config.judge_images, device=device)
        path, limit = work / f"tune-{name}.npz", tuning_images(config)
        tuning = votes_of(held_aside, folder, path, config.tune_samples, limit=limit, device=device)
        thresholds, acr = choose(tuning)
        rows = rows_of(votes, thresholds, when)
        both.append(Judged(when=when, folder=folder, votes=votes, thresholds=thresholds, acr=acr, rows=rows))
    return both[0], both[1]


def tuning_images(config: PairConfig) -> int:
    return min(config.tune_images, config.judge_images)


def measure(config: PairConfig, data: Path, work: Path, device: str) -> None:
    """Tables, thresholds, the shipped bundle, its card."""
    before, after = judge(config, data, work, device)
    # By the images held aside, so that the tables are of images that decided nothing.
    ships = after if after.acr > before.acr else before
    rows = [*before.rows, *after.rows]
    for budget in sorted({min(budget, ships.votes.samples) for budget in (10_000, 3_000)}, reverse=True):
        replayed = adaptive(ships.votes, budget, list(ships.thresholds), "plurality")
        rows.append(named(replayed, f"{ships.when}: {replayed.name}"))
    # How it was judged may have changed since it was trained, and a run that goes on does not train again.
    provenance = {**load_manifest(ships.folder).provenance, "config": dataclasses.asdict(config)}
    out = retuned(ships.folder, ships.thresholds, work / "shipped", name="cifar10", provenance=provenance)
    dtypes = compare_dtypes(out, data, min(50, config.judge_images), 256, device)
    test = open_dataset(str(data / "test.npz"))
    table = asyncio.run(costs(test.part(limit=config.cost_images), str(out), device=device))
    write("cifar10", _part_of_results(config, before, after, ships, rows, dtypes, table))
    _draw(config, before, after, ships)
    measured = figures(out, ships.votes, rows, RADII, {"finetuned": ships is after})
    seconds = asyncio.run(answer_seconds(out, data, device))
    manifest = publish(out, measured, card(load_manifest(out), measured, rows, _how(config), dtypes, seconds))
    shipped = BUNDLES / "cifar10"
    if shipped.exists():
        shutil.rmtree(shipped)
    shutil.copytree(out, shipped)
    log(f"wrote {shipped.relative_to(ROOT)}: {manifest.digest}")


def retuned(folder: Path, thresholds: tuple[float, ...], out: Path, **more: Any) -> Path:
    """A copy of a bundle with other thresholds, and more of its manifest replaced; `out` if it was there is gone."""
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(folder, out)
    manifest = dataclasses.replace(load_manifest(out), thresholds=thresholds, files=file_digests(out), **more)
    save_manifest(manifest, out)
    return out


def _how(config: PairConfig) -> str:
    return "CPU-trained" if config.name.endswith("_cpu") else "GPU-trained"


def _part_of_results(
    config: PairConfig, before: Judged, after: Judged, ships: Judged, rows: list[Curve], dtypes: str, table: str
) -> str:
    other = before if ships is after else after
    return "\n\n".join(
        [
            f"**{_how(config)}**, {config.dtype}. {config.judge_images} test images; N = {before.votes.samples} at "
            f"each scale before fine-tuning, {after.votes.samples} after; alpha = {float(ships.votes.alpha):g}. "
            f"Thresholds, chosen for ACR on {tuning_images(config)} training images held aside: "
            f"{listed(before.thresholds)} before, {listed(after.thresholds)} after. The classifier is right on "
            f"{np.mean(after.votes.plain == after.votes.labels):.1%} of the clean test images. Shipped: the bundle "
            f"{ships.when} fine-tuning, whose ACR on the images held aside is {ships.acr:.4f} (the other's: "
            f"{other.acr:.4f}).",
            markdown(rows, RADII),
            "![certified accuracy](curves/cifar10.svg)",
            PUBLISHED,
            "The published figures are of the original images, these of JPEG copies.",
            dtypes,
            table,
        ]
    )


def _draw(config: PairConfig, before: Judged, after: Judged, ships: Judged) -> None:
    """`best` as tuned of both, `reference` as published and the single scales by plurality of what ships."""
    shown = [
        named(best_curve(judged.votes, judged.thresholds, "plurality"), f"{judged.when}: best, tuned")
        for judged in (before, after)
    ]
    shown += [row for row in ships.rows if (row.policy, row.final) == ("reference", "threshold")]
    shown += [row for row in ships.rows if (row.policy, row.final) == ("single", "plurality")]
    title = f"CIFAR-10 (JPEG), {config.judge_images} test images, {_how(config)}"
    draw(shown, CURVES / "cifar10.png", title=title)


def card(
    manifest: Manifest,
    measured: Mapping[str, Any],
    rows: list[Curve],
    how: str,
    dtypes: str,
    seconds: tuple[float, float] | None,
) -> str:
    """seconds: as answer_seconds; None: not measured."""
    an_answer = (
        f"\n- **An answer takes** {seconds[0]:.0f} s at 10,000 samples and {seconds[1]:.1f} s for radius 0.25, there."
        if seconds
        else ""
    )
    return f"""\
# cifar10: a model card

Photographs of ten kinds of things, 32x32 RGB. **{how}.** A diffusers `UNet2DModel` denoises in one step; a timm network
classifies what comes out: {measured["mflop_per_sample"]:.0f} MFLOP a sample, {measured["weights_megabytes"]:.1f} MB of
weights, {manifest.dtype}.

- **Data**: CIFAR-10 as JPEG copies; figures measured on them are of "CIFAR-10 (JPEG)". {manifest.provenance["split"]}.
- **Made and measured by** `{manifest.provenance["command"]} --data DIR`.
- **Runs in** {manifest.dtype} where the CPU or GPU has it; measured in {measured["runtime"]} ({here()}).
- **Scales** {listed(manifest.sigmas)} (L2 noise in units of [0, 1] pixels), **thresholds**
  {listed(manifest.thresholds)}, finest scale by {manifest.final}. The classifier is right on
  {measured["clean_accuracy"]:.1%} of the clean test images.{an_answer}
- **Not for** deciding anything about real photographs: it knows ten classes at 32x32.

{dtypes}

## Certificates

{measured["images"]} test images, alpha = {measured["alpha"]:g}; policies and columns as in docs/results.md. "Before"
and "after", where they stand, are of the fine-tuning.

{markdown(rows, RADII)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cifar10", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", choices=["cifar10", "cifar10_cpu"])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.npz and test.npz")
    parser.add_argument("--work", type=Path, help="default: runs/RUN")
    parser.add_argument("--threads", type=int, default=2, help="of torch, in training on a CPU (default: %(default)s)")
    arguments = parser.parse_args()
    config = find_run(arguments.run)
    assert isinstance(config, PairConfig)
    work = (arguments.work or ROOT / "runs" / config.name).resolve()
    torch.set_num_threads(arguments.threads)
    train(config, arguments.data, work, command=f"python -m benchmarks.cifar10 {config.name}")
    torch.set_num_threads(1)
    measure(config, arguments.data.resolve(), work, "cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
