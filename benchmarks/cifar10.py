"""CIFAR-10 from images to a bundle with its tables: `python -m benchmarks.cifar10 RUN --data DIR`.

RUN is cifar10 (half an hour of one H100- or H200-class GPU) or cifar10_cpu (three hours of two cores). DIR holds
train.npz and test.npz. It trains what is not there yet, measures before and after fine-tuning on test images, chooses
thresholds on training images held aside, and writes models/bundles/cifar10 with its card, and a part of
docs/results.md. Stopped and started again it goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import importlib
import os
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.agreement import compare
from benchmarks.agreement import table as agreement_table
from benchmarks.cost import size
from benchmarks.machine import machine, sentence
from benchmarks.tables import CURVES, ROOT, adaptive, costs, named, votes_of, write
from certify.models.bundle import BUNDLES, Manifest, file_digests, load_manifest, save_manifest
from certify.models.datasets import open_dataset
from certify.models.runtime import options_for
from certify.models.train.config import PairConfig
from certify.models.train.log import log
from certify.models.train.separate import run as train
from certify.service.answering.fields import parse_texts
from certify.service.backends import open_backend
from certify.service.research.curves import Curve, curves_of_votes, draw, markdown
from certify.service.research.dataset_run import Here
from certify.service.research.threshold_choice import best_curve, tune
from certify.service.research.votes_file import VotesFile
from certify.service.settings import load_settings

RADII = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
SLACK = 0.005  # of certified accuracy at 0, below the best single scale's: what a larger ACR may cost
PUBLISHED = """\
| published, original CIFAR-10 | 0 | 0.25 | 0.5 | 0.75 | 1 | 1.5 |
| --- | --- | --- | --- | --- | --- | --- |
| Cohen et al. 2019, ResNet-110, sigma 0.25 |  | 0.60 | 0.43 | 0.27 |  |  |
| the same, sigma 0.5 |  | 0.55 | 0.41 | 0.32 | 0.23 | 0.15 |
| the same, sigma 1.0 |  | 0.39 | 0.34 | 0.28 | 0.22 | 0.17 |
| Carlini et al. 2022 and the paper, sigma 0.25 (50 M-parameter denoiser, 98% ViT) | 0.88 to 0.895 |  |  |  |  |  |"""


def rows_of(votes: VotesFile, thresholds: tuple[float, ...], when: str) -> list[Curve]:
    """Single scales, then the policies at p0 = .5 as published and `best` at the chosen thresholds."""
    singles = curves_of_votes(votes)[: 2 * len(votes.sigmas)]
    halves = [0.5] * len(votes.sigmas)
    published = [
        named(c, f"{c.name}, p0 = .5")
        for c in curves_of_votes(votes, thresholds=halves, final="threshold", singles=False)
        if c.name != "max-radius"
    ]
    tuned = [
        named(c, f"{c.name}, tuned")
        for c in curves_of_votes(votes, thresholds=thresholds, final="plurality", singles=False)
    ]
    plain = named(best_curve(votes, halves, "plurality"), "best, p0 = .5, plurality")
    return [named(c, f"{when}: {c.name}") for c in (*singles, *published, plain, *tuned)]


def choose(votes: VotesFile) -> tuple[tuple[float, ...], float]:
    """(thresholds, their ACR), on images held aside."""
    choice = tune(votes, target=None, shared=False, final="plurality")
    return choice.candidates[choice.chosen], choice.curves[choice.chosen].acr


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
                one = Here(backend, settings, parse_texts(texts), policy="best", seed=1)
                began = time.monotonic()
                await one.ask(dataset.idx[position], dataset.labels[position], dataset.read(position))
                seconds[kind].append(time.monotonic() - began)
    finally:
        await backend.close()
    return statistics.mean(seconds[0]), statistics.mean(seconds[1])


def measure(config: PairConfig, data: Path, work: Path, device: str) -> None:
    """Tables, thresholds, the shipped bundle, its card."""
    os.environ["CERTIFY_DEVICE"] = device  # of `certify dataset`, below
    test, held_aside = str(data / "test.npz"), str(data / "train.npz")
    judge = ("--limit", str(config.judge_images))
    before = votes_of(test, work / "plain", work / "test-plain", config.samples_before, *judge)
    after = votes_of(test, work / "finetuned", work / "test-finetuned", config.samples_after, *judge)
    tuning = ("--limit", str(min(config.tune_images, config.judge_images)))
    choices = {
        name: choose(votes_of(held_aside, work / name, work / f"tune-{name}", config.tune_samples, *tuning))
        for name in ("plain", "finetuned")
    }
    chosen = {name: thresholds for name, (thresholds, _) in choices.items()}
    rows = rows_of(before, chosen["plain"], "before") + rows_of(after, chosen["finetuned"], "after")
    # By the images held aside, so that the table below is of images that decided nothing.
    ships = max(choices, key=lambda name: choices[name][1])
    votes, when = {"plain": (before, "before"), "finetuned": (after, "after")}[ships]
    budgets = sorted({min(budget, votes.samples) for budget in (10_000, 3_000)}, reverse=True)
    rows += [
        named(adaptive(votes, budget, chosen[ships], "plurality"), f"{when}: the service, {budget} in all")
        for budget in budgets
    ]
    out = work / "shipped"
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(work / ships, out)
    manifest = load_manifest(out)
    manifest = dataclasses.replace(
        manifest,
        thresholds=chosen[ships],
        files=file_digests(out),
        name="cifar10",
        # How it was judged may have changed since it was trained, and a run that goes on does not train again.
        provenance={**manifest.provenance, "config": dataclasses.asdict(config)},
    )
    save_manifest(manifest, out)
    facts = size(out)
    clean = [float(np.mean(votes.plain == votes.labels)) for votes in (before, after)]
    dtypes = compare_dtypes(out, data, min(50, config.judge_images), 256, device)
    seconds = asyncio.run(answer_seconds(out, data, device))
    table = asyncio.run(costs(open_dataset(test).part(limit=config.cost_images), str(out)))
    how = "CPU-trained" if config.name.endswith("_cpu") else "GPU-trained"
    text = "\n\n".join(
        [
            f"**{how}**, {manifest.dtype}. {config.judge_images} test images; N = {before.samples} at each scale "
            f"before fine-tuning, {after.samples} after; alpha = 0.001. Thresholds, chosen for ACR on {tuning[1]} "
            f"training images held aside: {_text(chosen['plain'])} before, {_text(chosen['finetuned'])} after. The "
            f"classifier is right on {clean[1]:.1%} of the clean test images. Shipped: the bundle "
            f"{when} fine-tuning, whose ACR on the images held aside is {choices[ships][1]:.4f} (the other's: "
            f"{min(acr for _, acr in choices.values()):.4f}).",
            markdown(rows, RADII),
            "![certified accuracy](curves/cifar10.svg)",
            PUBLISHED,
            "The published figures are of the original images, these of JPEG copies.",
            dtypes,
            table,
        ]
    )
    policies = ("before: best, tuned", "after: best, tuned", f"{when}: reference, p0 = .5")
    shown = [row for row in rows if row.name in policies]
    draw([*shown, *(row for row in rows if row.name.startswith(f"{when}: sigma") and "plurality" in row.name)],
         CURVES / "cifar10.png", title=f"CIFAR-10 (JPEG), {config.judge_images} test images, {how}")  # fmt: skip
    write("cifar10", text)
    figures = {
        **facts,
        "images": config.judge_images,
        "samples": votes.samples,
        "finetuned": ships == "finetuned",
        "clean_accuracy": clean[1],
        "rows": {row.name: _figures(row) for row in rows},
    }
    manifest = dataclasses.replace(manifest, figures=figures)
    save_manifest(manifest, out)
    (out / "README.md").write_text(_card(manifest, rows, how, dtypes, seconds, device), encoding="utf-8")
    shipped = BUNDLES / "cifar10"
    if shipped.exists():
        shutil.rmtree(shipped)
    shutil.copytree(out, shipped)
    log(f"wrote {shipped.relative_to(ROOT)}: {manifest.digest}")


def _text(thresholds: tuple[float, ...]) -> str:
    return ", ".join(f"{t:g}" for t in thresholds)


def _figures(row: Curve) -> dict[str, object]:
    accuracy = {f"{r:g}": row.accuracy(r) for r in RADII}
    return {"accuracy": accuracy, "acr": row.acr, "abstained": row.abstention, "wrong": row.wrong}


def _card(
    manifest: Manifest, rows: list[Curve], how: str, dtypes: str, seconds: tuple[float, float], device: str
) -> str:
    figures = manifest.figures
    return f"""\
# cifar10: a model card

Photographs of ten kinds of things, 32x32 RGB. **{how}.** A diffusers `UNet2DModel` denoises in one step; a timm network
classifies what comes out: {figures["mflop_per_sample"]:.0f} MFLOP a sample, {figures["weights_megabytes"]:.1f} MB of
weights, {manifest.dtype}.

- **Data**: CIFAR-10 as JPEG copies; figures measured on them are of "CIFAR-10 (JPEG)". {manifest.provenance["split"]}.
- **Made and measured by** `{manifest.provenance["command"]} --data DIR`.
- **Scales** {_text(manifest.sigmas)} (L2 noise in units of [0, 1] pixels), **thresholds** {_text(manifest.thresholds)},
  finest scale by {manifest.final}. The classifier is right on {figures["clean_accuracy"]:.1%} of the clean test images.
- **An answer takes** {seconds[0]:.0f} s at 10,000 samples and {seconds[1]:.1f} s for radius 0.25, on {device}
  ({sentence(machine()).rstrip(".")}).
- **Not for** deciding anything about real photographs: it knows ten classes at 32x32.

{dtypes}

## Certificates

{figures["images"]} test images, alpha = 0.001; policies and columns as in docs/results.md. "Before" and "after" are of
the fine-tuning.

{markdown(rows, RADII)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cifar10", description=__doc__)
    parser.add_argument("run", choices=["cifar10", "cifar10_cpu"])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.npz and test.npz")
    parser.add_argument("--work", type=Path, help="default: runs/RUN")
    parser.add_argument("--threads", type=int, default=2, help="of torch, in training on a CPU (default: %(default)s)")
    arguments = parser.parse_args()
    config: PairConfig = importlib.import_module(f"certify.models.train.runs.{arguments.run}").CONFIG
    work = (arguments.work or ROOT / "runs" / config.name).resolve()
    torch.set_num_threads(arguments.threads)
    train(config, arguments.data, work)
    torch.set_num_threads(1)
    measure(config, arguments.data.resolve(), work, "cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
