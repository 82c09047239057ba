"""The training loop: denoiser and classifier together, end to end through the denoised image.

    x0 = denoise(x + sigma n, sigma)
    loss = denoise_weight * denoising_loss(x0, x)  +  cross-entropy of classify(x0)  +  a little of classify(x)

The classifier so meets clean and denoised images from the first step, and the denoiser learns to keep what tells the
classes apart. Scales are drawn log-uniformly around the shipped ones, so neither network learns three scales by heart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..classifier import Classifier
from ..denoiser import Denoiser
from .classifier import build_classifier, classification_loss
from .config import TrainConfig
from .data import augment
from .denoiser import build_denoiser, denoising_loss

__all__ = ("Networks", "train")


class Networks(NamedTuple):
    """What a bundle holds, in evaluation mode."""

    denoiser: Denoiser
    classifier: Classifier


def train(config: TrainConfig, images: Tensor, labels: Tensor, classes: int, log: Callable[[str], None]) -> Networks:
    """Train from nothing. images: (N, C, H, W) float32 in [0, 1]; labels: (N,) int64."""
    torch.manual_seed(config.seed)
    shape = (images.shape[1], images.shape[2], images.shape[3])
    denoiser = build_denoiser(config, shape).train()
    classifier = build_classifier(config, shape, classes).train()
    both = nn.ModuleList([denoiser, classifier])
    parameters = list(both.parameters())
    average = [p.detach().clone() for p in parameters]
    # beta2 .99: the loss's scale changes fast in the first thousand steps of so short a run
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    began, sums = time.monotonic(), [0.0, 0.0]
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(step, config)
        denoising, classification = _losses(config, denoiser, classifier, images, labels)
        optimizer.zero_grad()
        torch.autograd.backward(config.denoise_weight * denoising + classification)
        nn.utils.clip_grad_norm_(parameters, config.grad_clip)
        optimizer.step()
        with torch.no_grad():
            decay = min(config.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
        sums = [sums[0] + denoising.item(), sums[1] + classification.item()]
        if (step + 1) % config.log_every == 0:
            means = [s / config.log_every for s in sums]
            sums = [0.0, 0.0]
            log(
                f"step {step + 1}/{config.steps}  {time.monotonic() - began:.0f} s  "
                f"denoising {means[0]:.4f}  classification {means[1]:.4f}"
            )
    with torch.no_grad():
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.copy_(mean)
    # Batch norm's running statistics follow the weights closely (momentum .1), and the weights have all but stopped
    # at the end of the cosine, so they go with the average.
    both.eval().requires_grad_(False)
    return Networks(denoiser, classifier)


def _losses(
    config: TrainConfig, denoiser: Denoiser, classifier: Classifier, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Denoising and classification loss of one random batch."""
    chosen = torch.randint(len(images), (config.batch,))
    x = augment(
        images[chosen],
        share=config.augment_share,
        degrees=config.augment_degrees,
        scale=config.augment_scale,
        shear=config.augment_shear,
        shift_pixels=config.augment_shift_pixels,
    )
    low, high = math.log(config.sigma_low), math.log(config.sigma_high)
    sigma = torch.exp(low + (high - low) * torch.rand(config.batch))  # (N,)
    x0 = denoiser.denoise(x + sigma.view(-1, 1, 1, 1) * torch.randn_like(x), sigma)
    clean = max(2, round(config.clean_share * config.batch))
    logits = classifier(torch.cat([x0, x[:clean]]))
    both_labels = torch.cat([labels[chosen], labels[chosen[:clean]]])
    return denoising_loss(x0, x, sigma), classification_loss(logits, both_labels, config.batch, config.clean_weight)


def _rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine to 1% of the learning rate."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))
