"""Denoiser and classifier together, end to end through the denoised image.

    x0 = denoise(x + sigma n, sigma)
    loss = denoise_weight * denoising_loss(x0, x)  +  cross-entropy of classify(x0)  +  a little of classify(x)

The classifier meets clean and denoised images from the first step, and the denoiser learns to keep what tells the
classes apart. Scales are drawn log-uniformly around the shipped ones: neither network learns three scales by heart.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..bundle import Manifest
from ..classifier import Classifier
from ..denoiser import Denoiser
from ..write import Networks, write_bundle
from .classifier import build_classifier, classification_loss
from .config import TrainConfig
from .data import SPLIT_NAME, augment
from .denoiser import build_denoiser, build_scheduler, denoising_loss
from .stage import Losses, Stage, make_accelerator, run_stage

__all__ = ("train", "write_plain")


def train(
    config: TrainConfig,
    images: Tensor,
    labels: Tensor,
    classes: int,
    log: Callable[[str], None],
    work: Path | None = None,
) -> Networks:
    """Train from nothing. images: (N, C, H, W) float32 in [0, 1]; labels: (N,) int64.

    work: where work/joint.pt, the checkpoint, is kept; None = nowhere. Raises CheckpointError if that is another run's.
    Returns networks in evaluation mode.
    """
    torch.manual_seed(config.seed)
    shape = (images.shape[1], images.shape[2], images.shape[3])
    networks = Networks(build_denoiser(config, shape), build_classifier(config, shape, classes))
    accelerator = make_accelerator(config)
    device = accelerator.device
    stage = Stage(
        label="joint",
        config=config,
        trained=_EndToEnd(*networks).to(device).train(),
        losses_of=lambda running: _losses(config, running, images, labels, device),
        path=None if work is None else work / "joint.pt",
        identity={"images": len(images), **dataclasses.asdict(config)},
        progress=False,
        after_step=_Lines(config, log),
    )
    run_stage(stage, accelerator)
    # Batch norm's running statistics follow the weights closely (momentum .1), and the weights have all but stopped
    # at the end of the cosine, so they go with the average.
    return networks.ready()


def write_plain(config: TrainConfig, networks: Networks, out: Path, *, command: str) -> Manifest:
    """The plain bundle of the digits, with thresholds of 1/2, still to be chosen; an earlier bundle is replaced.

    command: what the provenance says made it.
    """
    channels, height, width = networks.classifier.input_size
    return write_bundle(
        networks,
        build_scheduler(config),
        out,
        name=f"{config.name}_plain",
        version=config.version,
        classes=tuple(str(digit) for digit in range(10)),
        input_shape=(channels, height, width),
        sigmas=config.sigmas,
        final=config.final,
        dtype=config.dtype,
        provenance={
            "data": "scikit-learn load_digits (1,797 images, 8x8), pixels round(x * 255 / 16)",
            "split": SPLIT_NAME,
            "command": command,
            "config": dataclasses.asdict(config),
        },
    )


class _EndToEnd(nn.Module):
    """Both networks as one module, so that several devices wrap them as one."""

    def __init__(self, denoiser: Denoiser, classifier: Classifier) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.classifier = classifier

    def forward(self, noisy: Tensor, sigma: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """(x0 of the noisy images (N, C, H, W), logits of x0 and of the clean images (N + M, K))."""
        x0 = self.denoiser(noisy, sigma)
        return x0, self.classifier(torch.cat([x0, clean]))


class _Lines:
    """A line with the losses' means every config.log_every steps."""

    def __init__(self, config: TrainConfig, log: Callable[[str], None]) -> None:
        self._config, self._log = config, log
        self._began = time.monotonic()
        self._seen: list[tuple[float, float]] = []

    def __call__(self, done: int, losses: Losses) -> None:
        self._seen.append((losses["denoising"].item(), losses["classification"].item()))
        if done % self._config.log_every == 0:
            denoising, classification = (sum(values) / len(self._seen) for values in zip(*self._seen, strict=True))
            self._seen.clear()
            self._log(
                f"step {done}/{self._config.steps}  {time.monotonic() - self._began:.0f} s  "
                f"denoising {denoising:.4f}  classification {classification:.4f}"
            )


def _losses(
    config: TrainConfig, running: nn.Module, images: Tensor, labels: Tensor, device: torch.device
) -> dict[str, Tensor]:
    """Of one random batch."""
    chosen = torch.randint(len(images), (config.batch,))
    x = augment(
        images[chosen],
        share=config.augment_share,
        degrees=config.augment_degrees,
        scale=config.augment_scale,
        shear=config.augment_shear,
        shift_pixels=config.augment_shift_pixels,
    ).to(device)
    low, high = math.log(config.sigma_low), math.log(config.sigma_high)
    sigma = torch.exp(low + (high - low) * torch.rand(config.batch)).to(device)  # (N,)
    clean = max(2, round(config.clean_share * config.batch))
    x0, logits = running(x + sigma.view(-1, 1, 1, 1) * torch.randn_like(x), sigma, x[:clean])
    both_labels = torch.cat([labels[chosen], labels[chosen[:clean]]]).to(device)
    denoising = denoising_loss(x0, x, sigma)
    classification = classification_loss(logits, both_labels, config.batch, config.clean_weight)
    return {
        "total": config.denoise_weight * denoising + classification,
        "denoising": denoising,
        "classification": classification,
    }
