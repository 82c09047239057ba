"""Both networks for a data set of small images, from nothing: `certify train cifar10 --data DIR`.

DIR has its train part (see models.datasets.open_part). WORK/bundle comes out, with thresholds of 1/2:
`python -m benchmarks.pictures` goes on from there. The checkpoint is WORK/joint.pt.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..datasets import open_part
from ..errors import DataError
from ..write import Networks, write_bundle
from .config import FileConfig
from .data import decode
from .denoiser import build_scheduler
from .joint import train
from .stage import by_one_process, log

__all__ = ("run", "write")


def run(config: FileConfig, data: Path, work: Path, *, command: str, limit: int | None = None) -> None:
    """Train and write WORK/bundle, unless it is there.

    data: a folder with a train part. command: what the provenance says made it. limit: only so many images, to try it.
    Raises DataError, and CheckpointError if WORK has another run's checkpoint.
    """
    out = work / "bundle"
    if out.exists():
        return
    whole = open_part(data, "train")
    log(f"{config.name}: decoding {limit or len(whole)} images")
    images, labels = decode(whole.part(limit=limit), shape=config.shape)
    if len(images) <= config.tune_images:
        raise DataError(
            f"{data}, train: expected more than {config.tune_images} images, which are held aside for "
            f"thresholds, got {len(images)}"
        )
    images, labels = images[config.tune_images :], labels[config.tune_images :]
    networks = train(config, images, labels, len(whole.classes), log, work)
    by_one_process(lambda: write(config, networks, whole.classes, out, command=command))


def write(config: FileConfig, networks: Networks, classes: tuple[str, ...], out: Path, *, command: str) -> None:
    """The bundle, its weights rounded to the dtype that they run in; an earlier bundle is replaced."""
    manifest = write_bundle(
        networks.stored_in(config.dtype),
        build_scheduler(config),
        out,
        name=config.bundle,
        version=config.version,
        classes=classes,
        input_shape=config.shape,
        sigmas=config.sigmas,
        final="plurality",
        dtype=config.dtype,
        provenance={
            "data": config.says,
            "split": f"the first {config.tune_images} training images held aside for thresholds",
            "command": command,
            "config": dataclasses.asdict(config),
        },
        model_args=dict(config.classifier_args),
    )
    log(f"wrote {out}: {manifest.digest}")
