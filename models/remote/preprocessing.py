"""From pixels to what a remote classifier is sent, in torch: part of a bundle's graph. Layout and rounding follow."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .declared import Input

__all__ = ("Preprocessing",)


class Preprocessing(nn.Module):
    """(N, C, H, W) in [0, 1] -> (N, C, h, w) of the declared size, scale, mean and std."""

    mean: Tensor  # (1, C, 1, 1)
    std: Tensor

    def __init__(self, declared: Input) -> None:
        super().__init__()
        self.declared = declared
        for name, values in (("mean", declared.mean), ("std", declared.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        wanted = self.declared
        if pixels.shape[2:] != wanted.size:
            # As for a local classifier: antialiased, and in float32, since torch has no such bfloat16 on a CPU.
            resized = functional.interpolate(
                pixels.float(), size=wanted.size, mode=wanted.kernel, align_corners=False, antialias=True
            )
            pixels = resized.to(pixels.dtype)
        pictures = (pixels - self.mean) / self.std
        return pictures if wanted.scale == 1 else wanted.scale * pictures
