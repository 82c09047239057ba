"""Other noise than Gaussian, of equal deviation: a Gaussian-trained denoiser under it, as it is and fine-tuned for it.

    python -m benchmarks.noises digits
    python -m benchmarks.noises cifar10 --data DIR        # DIR has test.npz, and train.npz for --steps

It makes a bundle for each kind of noise, draws its votes (splitting noise is counted), and fine-tunes the denoiser for
each with the paper's losses if there are --steps. Stopped and started again it goes on. Writes its parts of
docs/results.md and pictures into docs/curves/; all else is kept in runs/noises.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.noise_counts import at_offsets, counted_of
from benchmarks.noise_tables import Measured, alone, report
from benchmarks.pictures import retuned
from benchmarks.tables import ROOT, write
from benchmarks.votes import votes_of
from certify.models.bundle import find_bundle, load_manifest
from certify.models.datasets import DataSet, open_dataset, open_part
from certify.models.noises import NOISES, NoiseKind
from certify.models.runtime import limit_threads, usable_cores
from certify.models.train.config import FileConfig, FinetuneConfig
from certify.models.train.data import decode, digits_split, load_digits
from certify.models.train.finetune import finetune, write_finetuned
from certify.models.train.runs import find_run
from certify.models.train.stage import log

WORK = ROOT / "runs" / "noises"
PAPER = "digits_brier_anti"  # Brier and anti-consistency (arXiv 2310.16779, section 3.2)
ALONE = (102, 204, 306)  # offsets of a single splitting scale
LIMIT = 40  # images of those
TRAINING = 10_000  # images that are fine-tuned on, of a data file: more than a few minutes of a CPU see


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of which bundle."""

    bundle: str
    data: Path | None
    images: int
    samples: int
    steps: int  # of fine-tuning; 0: none
    tuned: int  # images that judge the fine-tuned

    @property
    def judged(self) -> DataSet:
        return open_dataset("digits", part="held_out") if self.data is None else open_part(self.data, "test")


def start(bundle: str, kind: NoiseKind) -> Path:
    """The bundle's own networks, scales and thresholds, with another noise."""
    folder = find_bundle(bundle)
    if kind == "gaussian":
        return folder
    manifest = load_manifest(folder)
    more = {"noise": (kind,) * len(manifest.sigmas), "norm": "l1", "name": f"{bundle}_{kind}", "figures": {}}
    return retuned(folder, manifest.thresholds, WORK / f"{bundle}-{kind}", **more)


def config_of(question: Question, kind: NoiseKind) -> FinetuneConfig:
    """The paper's losses; cifar10 is augmented as in the training that it goes on from."""
    paper = find_run(PAPER)
    assert isinstance(paper, FinetuneConfig)
    name = f"{question.bundle}_{kind}"
    config = dataclasses.replace(paper, name=name, start=str(start(question.bundle, kind)), steps=question.steps)
    if question.data is None:
        return config
    before = find_run(question.bundle)
    assert isinstance(before, FileConfig)
    return dataclasses.replace(config, **before.augmentation(), batch=32, warmup_steps=10, mixed_precision="bf16")


def finetuned(question: Question, kind: NoiseKind) -> Path:
    """The bundle's folder; trained now if it is not there."""
    work = WORK / f"{question.bundle}-{kind}-{question.steps}"
    if not (work / "bundle" / "bundle.json").exists():
        limit_threads()
        config = config_of(question, kind)
        if question.data is None:
            digits, chosen = load_digits(), digits_split().train
            images, labels = torch.from_numpy(digits.images[chosen]), torch.from_numpy(digits.labels[chosen])
        else:
            aside = 500  # training images, which chose the thresholds
            part = open_part(question.data, "train").part(limit=aside + TRAINING)
            images, labels = decode(part, shape=load_manifest(Path(config.start)).input_shape)
            images, labels = images[aside:], labels[aside:]
        networks = finetune(config, images, labels, Path(config.start), work, progress=False)
        write_finetuned(config, networks, Path(config.start), work / "bundle", command="python -m benchmarks.noises")
        log(f"fine-tuned for {kind} noise")
    return work / "bundle"


def measured(question: Question, folders: Mapping[NoiseKind, Path], name: str) -> dict[NoiseKind, Measured]:
    """Votes of every kind of noise, by a bundle for each. name: of their files."""
    judged, found = question.judged, dict[NoiseKind, Measured]()
    first = judged.part(limit=question.images)
    for kind, folder in folders.items():
        stem = WORK / f"{question.bundle}-{kind}-{name}"
        if kind == "splitting":
            found[kind] = counted_of(first, folder, Path(f"{stem}-{question.images}.npz"))
        else:
            path = Path(f"{stem}-{question.samples}.npz")
            found[kind] = votes_of(judged, folder, path, question.samples, limit=question.images)
    return found


def run(question: Question) -> str:
    starts = {kind: start(question.bundle, kind) for kind in NOISES}
    as_it_is = measured(question, starts, "start")
    tuned: dict[NoiseKind, Measured] = {}
    if question.steps:
        with ProcessPoolExecutor(usable_cores(), mp_context=get_context("spawn")) as pool:
            folders = dict(zip(NOISES, pool.map(finetuned, [question] * len(NOISES), NOISES), strict=True))
        fewer = dataclasses.replace(question, images=min(question.tuned, question.images))
        tuned = measured(fewer, folders, f"tuned-{question.steps}")
    text = report(question.bundle, as_it_is, tuned, question.steps)
    if question.bundle != "digits":
        return text
    folder = at_offsets(find_bundle(question.bundle), ALONE, WORK / f"{question.bundle}-alone")
    path = WORK / f"{question.bundle}-alone-{question.images}.npz"
    counts = counted_of(question.judged.part(limit=question.images), folder, path)
    return f"{text}\n\n{alone(counts, LIMIT)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.noises", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", choices=["digits", "cifar10"])
    parser.add_argument("--data", type=Path, help="of cifar10: folder with test.npz")
    parser.add_argument("--images", type=int, help="that judge (default: 150 digits, 8 of cifar10)")
    parser.add_argument("--samples", type=int, help="at each scale, of noise that is drawn (default: 1000, 320)")
    parser.add_argument("--steps", type=int, help="of fine-tuning (default: 200, none for cifar10)")
    parser.add_argument("--tuned", type=int, default=60, help="images that judge the fine-tuned (default: %(default)s)")
    given = parser.parse_args()
    if (given.data is None) != (given.bundle == "digits"):
        parser.error("--data: expected a folder for cifar10, none for digits")
    images, samples, steps = (150, 1_000, 200) if given.data is None else (8, 320, 0)
    question = Question(
        bundle=given.bundle,
        data=given.data.resolve() if given.data else None,
        images=given.images or images,
        samples=given.samples or samples,
        steps=steps if given.steps is None else given.steps,
        tuned=given.tuned,
    )
    torch.set_num_threads(1)
    text = run(question)
    print(text)
    write(f"noises-{question.bundle}", text)


if __name__ == "__main__":
    main()
