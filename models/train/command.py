"""`certify train RUN`: a named run, trained as the type of its configuration says, ends as bundles.

    certify train digits                         # both networks from nothing: WORK/bundle, with thresholds of 1/2
    certify train cifar10_cpu --data DIR         # both, of a data file: WORK/bundle
    certify train digits_brier [--bundle B]      # goes on from a bundle: WORK/bundle
    certify train cifar10_brier_anti --data DIR [--bundle B]
    certify train photo --data DIR               # a denoiser alone, of a folder of photographs: WORK/denoiser
    accelerate launch -m certify train RUN       # several GPUs; a run's batch is each process's

Choosing thresholds and measuring is not training: `python -m benchmarks.digits` and `python -m benchmarks.pictures`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from ..bundle import Manifest, find_bundle, load_manifest
from ..datasets import open_part
from ..errors import BundleError, DataError
from ..runtime import usable_cores
from ..write import check_place, replaces_bundle
from . import from_file, joint, photo
from .config import FileConfig, FileFinetuneConfig, FinetuneConfig, PhotoConfig, TrainConfig
from .data import SPLIT_NAME, digits_split, load_digits
from .finetune import finetune, write_finetuned
from .runs import find_run
from .stage import by_one_process, log

__all__ = ("train_run",)

WORK = Path("runs")  # in the current folder
TRAIN_PART = "with train.npz or another train part"


def train_run(
    run: str,
    *,
    data: Path | None = None,
    out: Path | None = None,
    work: Path | None = None,
    limit: int | None = None,
    seed: int | None = None,
    bundle: str | None = None,
    threads: int | None = None,
) -> None:
    """Train the named run and write its bundles; what is in `work` already is not done again.

    data: a folder with a train part, as train.npz, or of photographs, for runs that are not of the digits.
    out: the bundle's folder (default: WORK/bundle).
    work: of checkpoints (default: runs/NAME-seedN, runs/NAME of a data file). limit: only so many images, to try it.
    seed: another than the run's. bundle: what a fine-tuning begins from. threads: of torch on a CPU; None =
    every core for a data file's run, and 1 for others, whose small convolutions run slower on two threads than on one.
    Raises DataError for a wrong argument or wrong data, BundleError for a wrong bundle or a full `out`,
    CheckpointError if `work` is another run's.
    """
    config = find_run(run)
    for name, value in (("limit", limit), ("threads", threads)):
        if value is not None and value < 1:
            raise DataError(f"{name}: expected at least 1, got {value}")
    of_file = isinstance(config, FileConfig | FileFinetuneConfig)
    torch.set_num_threads(threads or (usable_cores() if of_file else 1))
    if isinstance(config, FileConfig):
        _refuse(run, "ends as WORK/bundle, from nothing", out=out, seed=seed, bundle=bundle)
        from_file.run(
            config,
            _need(run, data, TRAIN_PART),
            work or WORK / config.name,
            command=f"certify train {run}",
            limit=limit,
        )
        return
    if isinstance(config, PhotoConfig):
        _refuse(run, "ends as WORK/denoiser, from nothing", out=out, seed=seed, bundle=bundle)
        photo.run(config, _need(run, data, "of photographs"), work or WORK / config.name, limit=limit)
        return
    if not of_file:
        _refuse(run, "learns from the digits, which come with scikit-learn", data=data)
    if seed is not None:
        config = dataclasses.replace(config, seed=seed)
    work = work or WORK / f"{config.name}-seed{config.seed}"
    out = out or work / "bundle"
    if isinstance(config, TrainConfig):
        _refuse(run, "begins from nothing", bundle=bundle)
        _train_digits(config, out, work, limit)
    else:
        _finetune(config if bundle is None else dataclasses.replace(config, start=bundle), data, out, work, limit)


def _train_digits(config: TrainConfig, out: Path, work: Path, limit: int | None) -> None:
    check_place(out, replaces_bundle)
    images, labels = _digits(limit)
    log(f"{config.name}: {SPLIT_NAME}, {len(images)} images to train on, {config.steps} steps")
    networks = joint.train(config, images, labels, classes=10, log=log, work=work)

    def write() -> None:
        manifest = joint.write_plain(config, networks, out, command=f"certify train {config.name} --seed {config.seed}")
        log(f"wrote {out}: {manifest.name}, {manifest.digest}")

    by_one_process(write)


def _finetune(config: FinetuneConfig, data: Path | None, out: Path, work: Path, limit: int | None) -> None:
    """data: of a data file's run; None: the digits."""
    check_place(out)
    start = find_bundle(config.start)
    before = load_manifest(start)
    ours = from_file.held_aside(config.tune_images) if isinstance(config, FileFinetuneConfig) else SPLIT_NAME
    split = before.provenance.get("split")
    if split != ours:  # what chooses or judges must be unseen by both
        raise BundleError(f"{start}: provenance.split: expected {ours!r}, as {config.name} has, got {split!r}")
    if isinstance(config, FileFinetuneConfig):
        images, labels = _of_file(config, before, _need(config.name, data, TRAIN_PART), limit)
    else:
        images, labels = _digits(limit)
    networks = finetune(config, images, labels, start, work)

    def write() -> None:
        manifest = write_finetuned(config, networks, start, out)
        log(f"wrote {out}: {manifest.name}, {manifest.digest}")

    by_one_process(write)


def _of_file(config: FileFinetuneConfig, before: Manifest, data: Path, limit: int | None) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, C, H, W) in the bundle's shape, labels int64 (N,) in its classes."""
    part = open_part(data, "train").part(limit=limit)
    part = dataclasses.replace(part, labels=part.labels_in(before.classes), classes=before.classes)
    log(f"{config.name}: decoding {len(part)} images")
    return from_file.learned_from(part, config.tune_images, before.input_shape, data)


def _digits(limit: int | None) -> tuple[Tensor, Tensor]:
    """The training part: images float32 (N, 1, 8, 8) in [0, 1], labels int64 (N,)."""
    digits, chosen = load_digits(), digits_split().train[:limit]
    return torch.from_numpy(digits.images[chosen]), torch.from_numpy(digits.labels[chosen])


def _need(run: str, data: Path | None, what: str) -> Path:
    """Raises DataError if `data` is not given. what: the folder that the run learns from."""
    if data is None:
        raise DataError(f"data: expected a folder {what}, which {run} learns from, got none")
    return data


def _refuse(run: str, reason: str, **arguments: object) -> None:
    """Raises DataError for an argument that this kind of run does not take."""
    for name, value in arguments.items():
        if value is not None:
            raise DataError(f"{name}: expected none, since {run} {reason}; got {value}")
