"""Write trained networks as a bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .bundle import Manifest, file_digests, save_manifest
from .train.classifier import save_classifier
from .train.config import TrainConfig
from .train.data import SPLIT_NAME
from .train.denoiser import build_scheduler
from .train.joint import Networks

__all__ = ("write_bundle",)


def write_bundle(config: TrainConfig, networks: Networks, folder: Path) -> Manifest:
    """The plain bundle: three model folders and a manifest with thresholds of 1/2, still to be chosen."""
    networks.denoiser.unet.save_pretrained(str(folder / "denoiser"), safe_serialization=True)
    build_scheduler(config).save_pretrained(str(folder / "scheduler"))
    save_classifier(networks.classifier, folder / "classifier")
    size = networks.classifier.input_size
    manifest = Manifest(
        name=f"{config.name}_plain",
        version=config.version,
        classes=tuple(str(digit) for digit in range(10)),
        input_shape=(size[0], size[1], size[2]),
        sigmas=config.sigmas,
        thresholds=(0.5,) * len(config.sigmas),
        final=config.final,
        dtype=config.dtype,
        files=file_digests(folder),
        preprocessing={"color": "gray", "pixels": "uint8 / 255"},
        provenance={
            "data": "scikit-learn load_digits (1,797 images, 8x8), pixels round(x * 255 / 16)",
            "split": SPLIT_NAME,
            "command": f"python -m benchmarks.digits {config.name} --train",
            "config": dataclasses.asdict(config),
        },
    )
    save_manifest(manifest, folder)
    return manifest
