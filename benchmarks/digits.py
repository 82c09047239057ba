"""The digits bundles: measured on held-out images, with figures and card; with --train made from nothing before.

    python -m benchmarks.digits digits --samples 10000 [--bundle NAME-OR-FOLDER] [--work FOLDER]
    python -m benchmarks.digits digits --train [--out FOLDER] [--plain FOLDER] [--work FOLDER]

--train is the whole way: train, choose thresholds on the tuning part, write the plain bundle, fine-tune it, write the
bundle that ships, measure both on the held-out part. Stopped and started again, measuring goes on from the votes
already drawn, fine-tuning from its checkpoint.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import torch

from benchmarks.cards import figures, publish
from benchmarks.digits_card import RADII, card
from benchmarks.votes import Undenoised, adaptive, choose, majorities, votes_of
from certify.models.bundle import BUNDLES, MANIFEST, Manifest, find_bundle, load_manifest, save_manifest
from certify.models.convert import with_graph
from certify.models.datasets import open_dataset
from certify.models.runtime import limit_threads
from certify.models.train.config import FinetuneConfig, TrainConfig
from certify.models.train.data import SPLIT_NAME, digits_split, load_digits
from certify.models.train.finetune import finetune, write_finetuned
from certify.models.train.joint import train, write_plain
from certify.models.train.runs import find_run
from certify.models.train.stage import log
from certify.service.research.curves import Curve, curves_of_votes
from certify.service.research.votes_file import VotesFile

__all__ = ("evaluate", "train_bundles")


def evaluate(config: TrainConfig, folder: Path, samples: int, work: Path) -> dict[str, Any]:
    """Draw votes of the held-out part, `samples` at each scale in whole chunks; write figures and card.

    Returns the figures.
    """
    manifest, images, limit = load_manifest(folder), open_dataset("digits", part="held_out"), config.max_images
    stem = f"{manifest.name}-held_out-{samples}"
    own = votes_of(images, folder, work / f"{stem}.npz", samples, limit=limit)
    noisy = votes_of(images, folder, work / f"{stem}-undenoised.npz", samples, limit=limit, backend=Undenoised)
    beside = _beside(manifest, folder, config.report_sigmas, work)
    others = []
    if beside is not None:
        others.append(votes_of(images, beside, work / f"{stem}-beside.npz", samples, limit=limit))
    log(f"{manifest.name}: computing the tables")
    rows = rows_of(manifest, own, noisy, others, samples)
    shares = {
        f"{sigma:g}": dict(zip(("true_class", "wrong_class", "no_class"), majorities(votes, level), strict=True))
        for votes in (own, *others)
        for level, sigma in enumerate(votes.sigmas.tolist())
    }
    measured = figures(folder, own, rows, RADII, {"part": "held_out", "budget": samples, "shares": shares})
    publish(folder, measured, card(config, manifest, measured, rows))
    return measured


def rows_of(manifest: Manifest, own: VotesFile, noisy: VotesFile, others: list[VotesFile], samples: int) -> list[Curve]:
    """Every scale alone, without the denoiser too, then the policies as published, untuned and as shipped.

    own: the bundle's scales; noisy: the same without the denoiser; others: scales beside them.
    """
    halves = [0.5] * len(own.sigmas)
    published = curves_of_votes(own, thresholds=halves, final="threshold", singles=False)
    alone = [c for votes in (own, *others) for c in curves_of_votes(votes) if c.policy == "single"]
    bare = [c for c in curves_of_votes(noisy) if c.policy == "single" and c.final == "plurality"]
    untuned = adaptive(own, samples, halves, "threshold")
    shipped = adaptive(own, samples, list(manifest.thresholds), manifest.final)
    return [
        *sorted(alone, key=lambda curve: (curve.final != "threshold", curve.sigma)),
        *(dataclasses.replace(c, name=f"no denoiser: {c.name}", policy=None) for c in bare),
        *(dataclasses.replace(c, name="reference, p0 = .5") for c in published if c.policy == "reference"),
        dataclasses.replace(untuned, name=f"{untuned.name}, p0 = .5"),
        shipped,
    ]


def _beside(manifest: Manifest, folder: Path, sigmas: tuple[float, ...], work: Path) -> Path | None:
    """A copy of the bundle at those of `sigmas` that it has not: what other scales would have been worth."""
    others = tuple(sigma for sigma in sigmas if sigma not in manifest.sigmas)
    if not others:
        return None
    copy = work / f"{manifest.name}-beside"
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    bare = dataclasses.replace(manifest, files={name: manifest.files[name] for name in manifest.sources}, timesteps=())
    save_manifest(with_graph(dataclasses.replace(bare, sigmas=others, thresholds=(0.5,) * len(others)), copy), copy)
    return copy


def train_bundles(config: TrainConfig, finetuning: FinetuneConfig, folder: Path, plain: Path, work: Path) -> None:
    """folder: the bundle that ships; plain: the one before fine-tuning; work: for checkpoints and drawn votes."""
    command = f"python -m benchmarks.digits {config.name} --train"
    limit_threads()  # small convolutions run slower on two OpenMP threads than on one
    digits, split = load_digits(), digits_split()
    log(f"{config.name}: {SPLIT_NAME}, {len(split.train)} images to train on, {config.steps} steps")
    images, labels = torch.from_numpy(digits.images[split.train]), torch.from_numpy(digits.labels[split.train])
    networks = train(config, images, labels, classes=10, log=log, work=work)
    write_plain(config, networks, plain, command=command)
    log(f"wrote {plain}; choosing thresholds on {len(split.tune)} images")
    fresh = load_manifest(plain)  # a file of votes for each start: one of another is refused
    start = fresh.digest.removeprefix("sha256:")[:12]
    tuning = open_dataset("digits", part="tune")
    path = work / f"tune-{start}.npz"
    thresholds, acr = choose(votes_of(tuning, plain, path, config.tune_samples, limit=config.max_images))
    log(f"thresholds {thresholds}: ACR {acr:.4f}")
    save_manifest(dataclasses.replace(fresh, thresholds=thresholds), plain)
    log(f"fine-tuning as {finetuning.name}, {finetuning.steps} steps")
    networks = finetune(finetuning, images, labels, plain, work / f"{finetuning.name}-{start}")
    if (folder / MANIFEST).exists():
        shutil.rmtree(folder)  # an earlier one
    named = dataclasses.replace(finetuning, name=config.name, version=config.version)
    write_finetuned(named, networks, plain, folder, command=command)


def main() -> None:
    """Parse the command line; train if asked to; measure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.digits", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", choices=["digits"])
    parser.add_argument("--train", action="store_true", help="from nothing, then measure both bundles")
    parser.add_argument("--samples", type=int, help="draws a scale (default: 10000; with --train the run's own)")
    parser.add_argument("--bundle", help="to measure: a shipped one's name or a folder (default: the run's name)")
    parser.add_argument("--out", type=Path, help="with --train: the bundle's folder (default: the shipped one's)")
    parser.add_argument("--plain", type=Path, help="with --train: of the bundle before fine-tuning, likewise")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="for votes and checkpoints (default: runs)")
    arguments = parser.parse_args()
    if arguments.train and arguments.bundle:
        parser.error("--bundle: expected none with --train, which measures what it makes")
    if not arguments.train and (arguments.out or arguments.plain):
        parser.error("--out, --plain: expected --train with them")
    config = find_run(arguments.run)
    assert isinstance(config, TrainConfig)
    if not arguments.train:
        evaluate(config, find_bundle(arguments.bundle or config.name), arguments.samples or 10_000, arguments.work)
        return
    out, plain = arguments.out or BUNDLES / config.name, arguments.plain or BUNDLES / f"{config.name}_plain"
    finetuning = find_run(config.finetune)
    assert isinstance(finetuning, FinetuneConfig)
    finetuning = dataclasses.replace(finetuning, seed=config.finetune_seed)
    train_bundles(config, finetuning, out, plain, arguments.work)
    for folder in (plain, out):
        evaluate(config, folder, arguments.samples or config.evaluate_samples, arguments.work)


if __name__ == "__main__":
    main()
