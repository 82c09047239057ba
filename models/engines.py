"""What computes the logits of noisy images: one interface, an engine for each way to run the two networks.

    torch      a CPU, as it is; a CUDA device: compiled with CUDA graphs at the one shape that the pipeline asks for
    openvino   a CPU: scaling, UNet, clip and classifier as one graph; several times torch's speed (docs/performance.md)

An engine's votes are a function of its own: engines differ in the last bits of a logit, and so, now and then, in a
vote. That is why an answer names engine and dtype, and why replicas that differ are refused. Within an engine a
sample's logits may depend on nothing but the batch's shape and the sample's place: one thread computes a batch.
"""

from __future__ import annotations

import importlib.util
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .classifier import Classifier
from .denoiser import Denoiser
from .noise import chunk_noise

__all__ = ("ENGINES", "Engine", "Graph", "default_engine", "numpy_noise")

ENGINES = ("torch", "openvino")  # as they are asked for


def default_engine(device: str) -> Literal["torch", "openvino"]:
    """The fastest one that is installed: OpenVINO on a CPU, else torch."""
    return "openvino" if device == "cpu" and importlib.util.find_spec("openvino") else "torch"


class Engine(Protocol):
    """Safe to call from several threads. `denoiser` and `classifier` are the torch networks that it was made from."""

    name: str  # as in ENGINES; "-2" and so on after it once the last bits of its votes have changed
    dtype: str  # "float32" or "bfloat16": what really runs, whatever the manifest hoped for
    device: torch.device
    generator: str  # of models.noise
    denoiser: Denoiser
    classifier: Classifier

    def noise(self, seed: int, first: int, count: int, shape: tuple[int, ...]) -> Tensor:
        """Unit normals of chunks first..first+count-1, float32 (count * chunk, C, H, W), on `device`.

        seed: uint64. shape: (chunk, C, H, W).
        """

    def logits(self, noisy: Tensor, sigma: float) -> Tensor:
        """float32 (N, K) of noisy pixels, float32 (N, C, H, W) on `device`; N is always the same."""

    def plain(self, images: Tensor) -> Tensor:
        """float32 (N, K): the classifier alone, on clean images in [0, 1]."""


class Graph(nn.Module):
    """Noisy pixels and a scale's constants -> logits, in tensors alone: what is traced or compiled."""

    def __init__(self, denoiser: Denoiser, classifier: Classifier) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.classifier = classifier

    def forward(self, noisy: Tensor, timestep: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """noisy: (N, C, H, W). The others: Denoiser.constants of one sigma, or (N,) each, one for each image."""
        logits: Tensor = self.classifier(self.denoiser.denoise_at(noisy, timestep, signal, noise))
        return logits


def numpy_noise(seed: int, first: int, count: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.concatenate([chunk_noise(seed, j, shape) for j in range(first, first + count)]))
