"""Both networks for a data set of small images, from nothing: `certify train cifar10 --data DIR`.

DIR has its train part (see models.datasets.open_part). WORK/bundle comes out, with thresholds of 1/2:
`python -m benchmarks.pictures` goes on from there. The checkpoint is WORK/joint.pt.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import Tensor

from ..datasets import DataSet, open_part
from ..errors import DataError
from ..write import Networks, write_bundle
from .config import FileConfig
from .data import decode
from .denoiser import build_scheduler
from .joint import train
from .stage import by_one_process, log

__all__ = ("held_aside", "learned_from", "run", "write")


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
    images, labels = learned_from(whole.part(limit=limit), config.tune_images, config.shape, data)
    networks = train(config, images, labels, len(whole.classes), log, work)
    by_one_process(lambda: write(config, networks, whole.classes, out, command=command))


def learned_from(part: DataSet, tune_images: int, shape: tuple[int, int, int], where: Path) -> tuple[Tensor, Tensor]:
    """What a train part leaves to learn from: images uint8 (N, C, H, W), labels int64 (N,), in its order.

    tune_images: the first of the part, held aside. where: its folder, for messages. Raises DataError if no more are
    there, or one has another shape.
    """
    if len(part) <= tune_images:
        raise DataError(
            f"{where}, train: expected more than {tune_images} images, which are held aside for thresholds, "
            f"got {len(part)}"
        )
    images, labels = decode(part, shape=shape)
    return images[tune_images:], labels[tune_images:]


def held_aside(tune_images: int) -> str:
    """The split that a bundle's provenance names."""
    return f"the first {tune_images} training images held aside for thresholds"


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
            "split": held_aside(config.tune_images),
            "command": command,
            "config": dataclasses.asdict(config),
        },
        model_args=dict(config.classifier_args),
    )
    log(f"wrote {out}: {manifest.digest}")
