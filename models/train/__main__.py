"""Train a named run from nothing and write its bundles: `python -m models.train digits [--out FOLDER]`.

The whole way in one command: train, choose scales and thresholds on the tuning part, write the plain bundle, fine-tune
it, write the bundle that ships, measure both on the held-out part, write their model cards. Under 30 minutes on two
cores for `digits`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import shutil
from pathlib import Path
from typing import Any

import torch

from benchmarks.digits import evaluate

from ..bundle import BUNDLES, MANIFEST, load_manifest
from ..runtime import limit_threads
from ..write import write_bundle
from .config import FinetuneConfig, TrainConfig
from .data import SPLIT_NAME, digits_split, load_digits
from .finetune import finetune, write_finetuned
from .joint import train
from .log import log
from .tune import tune


def run(config: TrainConfig, finetuning: FinetuneConfig, folder: Path, plain: Path, work: Path) -> None:
    """Everything that the command does. folder: the bundle that ships; plain: the one before fine-tuning; work: where
    checkpoints and drawn votes are kept, to go on from."""
    limit_threads()  # small convolutions run slower on two OpenMP threads than on one
    digits, split = load_digits(), digits_split()
    log(f"{config.name}: {SPLIT_NAME}, {len(split.train)} images to train on, {config.steps} steps")
    images, labels = torch.from_numpy(digits.images[split.train]), torch.from_numpy(digits.labels[split.train])
    write_bundle(config, train(config, images, labels, classes=10, log=log), plain)
    log(f"wrote {plain}; choosing scales and thresholds on {len(split.tune)} images")
    tune(config, plain, work, log)
    log(f"fine-tuning as {finetuning.name}, {finetuning.steps} steps")
    # A folder for each start: a checkpoint of another is refused.
    start = load_manifest(plain).digest.removeprefix("sha256:")[:12]
    networks = finetune(finetuning, images, labels, plain, work / f"{finetuning.name}-{start}")
    if (folder / MANIFEST).exists():
        shutil.rmtree(folder)  # an earlier one
    named = dataclasses.replace(finetuning, name=config.name, version=config.version)
    write_finetuned(named, networks, plain, folder, command=f"python -m models.train {config.name}")
    for each in (plain, folder):
        log(f"measuring {each} on the held-out part")
        evaluate(config, each, config.evaluate_samples, work, log)
    log(f"done: {folder}")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__)
    parser.add_argument("run", choices=["digits"])
    parser.add_argument("--out", type=Path, help="bundle folder (default: the shipped bundle's)")
    parser.add_argument(
        "--plain", type=Path, help="folder of the bundle before fine-tuning (default: the shipped one's)"
    )
    parser.add_argument("--work", type=Path, default=Path("runs"), help="folder for checkpoints and drawn votes")
    arguments = parser.parse_args()
    config: TrainConfig = _config(arguments.run)
    finetuning: FinetuneConfig = dataclasses.replace(_config(config.finetune), seed=config.finetune_seed)
    run(
        config, finetuning, arguments.out or BUNDLES / config.name, arguments.plain or BUNDLES / f"{config.name}_plain",
        arguments.work,
    )  # fmt: skip


def _config(run: str) -> Any:
    return importlib.import_module(f"certify.models.train.runs.{run}").CONFIG


if __name__ == "__main__":
    main()
