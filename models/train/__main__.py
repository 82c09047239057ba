"""Train a named run from nothing and write its bundle: `python -m models.train digits [--out FOLDER]`.

The whole way in one command: train, choose scales and thresholds on the tuning part, write the bundle, measure it on
the held-out part, write the model card. Under 30 minutes on two cores for `digits`.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import torch

from models.bundle import BUNDLES
from models.runtime import limit_threads
from models.train.config import TrainConfig
from models.train.data import SPLIT_NAME, digits_split, load_digits
from models.train.evaluate import evaluate
from models.train.log import log
from models.train.loop import train
from models.train.tune import tune
from models.train.write import write_bundle


def run(config: TrainConfig, folder: Path, work: Path) -> None:
    """Everything that the command does. folder: the bundle; work: where drawn votes are kept, to go on from."""
    limit_threads()  # small convolutions run slower on two OpenMP threads than on one
    digits, split = load_digits(), digits_split()
    log(f"{config.name}: {SPLIT_NAME}, {len(split.train)} images to train on, {config.steps} steps")
    images, labels = torch.from_numpy(digits.images[split.train]), torch.from_numpy(digits.labels[split.train])
    networks = train(config, images, labels, classes=10, log=log)
    write_bundle(config, networks, folder)
    log(f"wrote {folder}; choosing scales and thresholds on {len(split.tune)} images")
    tune(config, folder, work, log)
    log("measuring on the held-out part")
    evaluate(config, folder, config.evaluate_samples, work, log)
    log(f"done: {folder}")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__)
    parser.add_argument("run", choices=["digits"])
    parser.add_argument("--out", type=Path, help="bundle folder (default: the shipped bundle's)")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="folder for drawn votes")
    arguments = parser.parse_args()
    config: TrainConfig = importlib.import_module(f"models.train.runs.{arguments.run}").CONFIG
    run(config, arguments.out or BUNDLES / config.name, arguments.work)


if __name__ == "__main__":
    main()
