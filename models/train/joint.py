"""Denoiser and classifier together, end to end through the denoised image.

    x0 = denoise(x + sigma n, sigma)
    loss = denoise_weight * denoising_loss(x0, x)  +  classification of x0  +  a little of that of x
           +  consistency * (two draws' answers held against each other)

The classifier meets clean and denoised images from the first step, and the denoiser learns to keep what tells the
classes apart. Scales are drawn log-uniformly around the shipped ones: neither network learns three scales by heart.
"""

from __future__ import annotations

import dataclasses
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
from .config import JointConfig, TrainConfig
from .data import SPLIT_NAME, augmented, log_uniform
from .denoiser import build_denoiser, build_scheduler, denoising_loss
from .losses import consistency
from .stage import Losses, Stage, fields_of, make_accelerator, run_stage

__all__ = ("train", "write_plain")


def train(
    config: JointConfig,
    images: Tensor,
    labels: Tensor,
    classes: int,
    log: Callable[[str], None],
    work: Path | None = None,
) -> Networks:
    """Train from nothing. images: (N, C, H, W), float32 in [0, 1] or uint8; labels: (N,) int64.

    work: where work/joint.pt, the checkpoint, is kept; None = nowhere. Raises CheckpointError if that is another run's.
    Returns networks in evaluation mode.
    """
    torch.manual_seed(config.seed)
    shape = (images.shape[1], images.shape[2], images.shape[3])
    networks = Networks(build_denoiser(config, shape), build_classifier(config, shape, classes))
    accelerator = make_accelerator(config)
    device = accelerator.device
    trained = _EndToEnd(*networks).to(device).train()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        # In place: names in the state dict stay. As CUDA graphs a step took as long (77 and 76 ms on an H200).
        trained.compile()
    pool, truth = images.to(device), labels.to(device)
    stage = Stage(
        label="joint",
        config=config,
        trained=trained,
        losses_of=lambda running: _losses(config, running, networks.denoiser, pool, truth),
        path=None if work is None else work / "joint.pt",
        identity={"images": len(images), **fields_of(config)},
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

    def forward(
        self, noisy: Tensor, timestep: Tensor, signal: Tensor, noise: Tensor, clean: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(x0 of the noisy images (N, C, H, W), logits of x0 and of the clean images (N + M, K)).

        timestep, signal, noise: what Denoiser.constants gives for each noisy image's scale.
        """
        x0 = self.denoiser.denoise_at(noisy, timestep, signal, noise)
        return x0, self.classifier(torch.cat([x0, clean]))


class _Lines:
    """A line with the losses' means every config.log_every steps."""

    def __init__(self, config: JointConfig, log: Callable[[str], None]) -> None:
        self._config, self._log = config, log
        self._began = time.monotonic()
        self._seen: list[Losses] = []

    def __call__(self, done: int, losses: Losses) -> None:
        self._seen.append({name: value.detach() for name, value in losses.items()})
        if done % self._config.log_every == 0:
            means = {name: torch.stack([one[name] for one in self._seen]).mean().item() for name in losses}
            self._seen.clear()
            self._log(
                f"step {done}/{self._config.steps}  {time.monotonic() - self._began:.0f} s  "
                + "  ".join(f"{name} {value:.4f}" for name, value in means.items())
            )


def _losses(
    config: JointConfig, running: nn.Module, denoiser: Denoiser, images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Of one random batch. Random numbers are the host's: the same on any device but for the noise."""
    device = images.device
    chosen = torch.randint(len(images), (config.batch,)).to(device)
    x = augmented(config, images[chosen])
    draws = 2 if config.consistency else 1
    sigma = log_uniform(config.sigma_low, config.sigma_high, config.batch).repeat(draws)  # (draws * N,)
    constants = [torch.as_tensor(values).to(device) for values in denoiser.constants(sigma.double().numpy())]
    sigma, target, labels = sigma.to(device), x.repeat(draws, 1, 1, 1), labels[chosen]
    clean = max(2, round(config.clean_share * config.batch))
    noisy = target + sigma.view(-1, 1, 1, 1) * torch.randn_like(target)
    x0, logits = running(noisy, *constants, x[:clean])
    x0, logits = x0.float(), logits.float()
    denoising = denoising_loss(x0, target, sigma)
    both = torch.cat([labels.repeat(draws), labels[:clean]])
    losses = {"denoising": denoising, "classification": classification_loss(config, logits, both, len(target))}
    total = config.denoise_weight * denoising + losses["classification"]
    if config.consistency:
        losses["consistency"] = consistency(logits[: config.batch], logits[config.batch : 2 * config.batch])
        total = total + config.consistency * losses["consistency"]
    losses["right"] = (logits[: len(target)].argmax(dim=1) == both[: len(target)]).float().mean()
    return {"total": total, **losses}
