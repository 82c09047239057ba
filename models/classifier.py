"""A timm classifier behind [0, 1] pixels: resize to its input size, normalise with its mean and std, logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ("Classifier",)


class Classifier(nn.Module):
    """(N, C, H, W) in [0, 1] -> logits (N, K)."""

    mean: Tensor  # (1, C, 1, 1)
    std: Tensor

    def __init__(self, net: nn.Module, config: dict[str, Any]) -> None:
        """config: timm's pretrained_cfg; of it input_size (C, H, W), mean and std are read."""
        super().__init__()
        self.net = net
        self.input_size = tuple(int(n) for n in config["input_size"])
        for name in ("mean", "std"):
            values = torch.tensor([float(v) for v in config[name]])
            if len(values) != self.input_size[0]:
                raise ValueError(f"{name}: expected {self.input_size[0]} values as in input_size, got {len(values)}")
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)

    @classmethod
    def from_folder(cls, folder: Path) -> Classifier:
        """Load timm's hub layout: config.json and model.safetensors; nothing is fetched."""
        import timm

        net = timm.create_model(f"local-dir:{folder}", pretrained=True)
        return cls(net, net.pretrained_cfg)

    def forward(self, pixels: Tensor) -> Tensor:
        size = self.input_size[1:]
        if pixels.shape[2:] != size:
            # Antialiasing matters only when it shrinks; it is what torchvision's and timm's own transforms do. In
            # float32: torch has no antialiased bfloat16 on a CPU.
            resized = functional.interpolate(
                pixels.float(), size=size, mode="bilinear", align_corners=False, antialias=True
            )
            pixels = resized.to(pixels.dtype)
        logits: Tensor = self.net((pixels - self.mean) / self.std)
        return logits
