"""Noise to train with: of the kind that a bundle is certified with, at each of its scales."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..bundle import Manifest
from ..noise import add_noise, numpy_noise
from ..noise_laws import GREY_STEPS, law_of
from ..noises import NoiseKind, half_width, laplace_b

__all__ = ("kinds_of", "noisy")


def kinds_of(manifest: Manifest) -> dict[float, NoiseKind]:
    """The kind of noise at each of the bundle's scales."""
    if not manifest.noise:
        return dict.fromkeys(manifest.sigmas, "gaussian")
    return dict(zip(manifest.sigmas, manifest.noise, strict=True))


def noisy(images: Tensor, scales: Tensor, kinds: Mapping[float, NoiseKind]) -> Tensor:
    """Images (N, C, H, W) in [0, 1] with noise of their scales, float32 (N,), each one of `kinds`.

    Drawn noise is not rounded to grey steps: a training image, turned and moved, is on no grid either.
    """
    if set(kinds.values()) == {"gaussian"}:
        return images + scales.view(-1, 1, 1, 1) * torch.randn_like(images)
    seen = torch.empty_like(images)
    for scale, kind in kinds.items():
        here = scales == torch.tensor(scale, dtype=scales.dtype)
        seen[here] = _of_one_scale(images[here], scale, kind)
    return seen


def _of_one_scale(images: Tensor, scale: float, kind: NoiseKind) -> Tensor:
    match kind:
        case "gaussian":
            return images + scale * torch.randn_like(images)
        case "laplace":
            difference = torch.empty_like(images).exponential_() - torch.empty_like(images).exponential_()
            return images + float(laplace_b(scale)) * difference
        case "uniform":
            return images + float(half_width(scale)) * (2 * torch.rand_like(images) - 1)
        case "splitting":
            return _split(images, scale)


def _split(images: Tensor, scale: float) -> Tensor:
    """Each image at an offset of its own, any of those that are counted."""
    law = law_of("splitting", scale)
    places = torch.from_numpy(numpy_noise(law, 0, 0, 1, (1, *images.shape[1:]))).to(images.device)
    offsets = torch.randint(law.cell, (len(images), 1, 1, 1), device=images.device)
    steps = torch.tensor(float(GREY_STEPS), device=images.device)
    seen: Tensor = add_noise(law, images * steps, (places + offsets) % law.cell, steps)
    return seen
