"""noise -> denoise -> classify -> votes, in micro-batches of one fixed shape.

The noise of a request is a stream of samples 0, 1, 2, ... named by (seed, sigma), cut into chunks of `chunk` samples.
Generator `cpu-philox-v1`, of which each part belongs to the definition:

    chunk j of seed s = numpy Generator(Philox(key=[s, j], counter=0)).standard_normal((chunk, C, H, W), float32)

numpy's Philox is Philox4x64-10 (Salmon et al. 2011): a 128-bit key, here the words (seed, chunk index), and a 256-bit
counter that starts at 0. The stream is of unit normals; sigma multiplies them. Two scales with one seed would share
their noise, so whoever derives seeds puts sigma into them.

A sample's vote may not depend on what was asked for around it, and a network's last bits do depend on the batch's
shape and on a sample's place in it. Hence: sample i always stands at place i mod `micro_batch` of a full micro-batch,
and whatever part of that batch was not asked for is padding, computed and dropped.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.bundle import Manifest
from models.engines import Engine

__all__ = ("GENERATOR", "Pipeline", "chunk_noise")

GENERATOR = "cpu-philox-v1"


def chunk_noise(seed: int, index: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Unit normals of one chunk. seed: uint64; index: chunk number >= 0; shape: (chunk, C, H, W)."""
    key = np.array([seed, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=0)).standard_normal(shape, dtype=np.float32)


class Pipeline:
    """The base classifier f(image + sigma * noise) of a bundle, sampled. Safe to call from several threads."""

    def __init__(self, engine: Engine, manifest: Manifest, *, micro_batch: int) -> None:
        """micro_batch: samples in one forward, a multiple of manifest.chunk; part of what a vote depends on."""
        if micro_batch < 1 or micro_batch % manifest.chunk:
            raise ValueError(f"micro_batch: expected a multiple of {manifest.chunk}, got {micro_batch}")
        self.manifest = manifest
        self.micro_batch = micro_batch
        self.engine = engine

    def votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        """Votes per class, int64 (K,), of samples first..first+count-1; memory does not grow with count.

        image: (C, H, W) float32 in [0, 1]. first and count: multiples of the bundle's chunk.
        """
        total = np.zeros(len(self.manifest.classes), dtype=np.int64)
        for low, high in self._micro_batches(first, count):
            labels = self._labels(image, sigma, seed, low, high)
            total += np.bincount(labels, minlength=len(total))
        return total

    def chunk_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        """As `votes`, but of each chunk by itself: int64 (count / chunk, K)."""
        labels = self.labels(image, sigma=sigma, seed=seed, first=first, count=count)
        votes = np.zeros((count // self.manifest.chunk, len(self.manifest.classes)), dtype=np.int64)
        np.add.at(votes, (np.arange(count) // self.manifest.chunk, labels), 1)
        return votes

    def labels(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        """The class of each sample, int64 (count,): what `votes` counts. Ties go to the lowest index."""
        parts = [self._labels(image, sigma, seed, low, high) for low, high in self._micro_batches(first, count)]
        return np.concatenate(parts)

    def classify(self, image: NDArray[np.float32]) -> int:
        """The plain classifier's answer on the clean image: no noise, no denoiser; the same fixed shape."""
        batch = self._tensor(image).expand(self.micro_batch, *image.shape)
        return int(self._argmax(self.engine.plain(batch.contiguous()))[0])

    def _micro_batches(self, first: int, count: int) -> Iterator[tuple[int, int]]:
        """[first, first + count) cut at multiples of micro_batch, as (low, high) sample numbers."""
        chunk = self.manifest.chunk
        if first < 0 or count < chunk or first % chunk or count % chunk:
            raise ValueError(f"first, count: expected multiples of {chunk} with count > 0, got {first}, {count}")
        cuts = range(first - first % self.micro_batch, first + count, self.micro_batch)
        return ((max(first, cut), min(first + count, cut + self.micro_batch)) for cut in cuts)

    def _labels(self, image: NDArray[np.float32], sigma: float, seed: int, low: int, high: int) -> NDArray[np.int64]:
        """Classes of samples low..high-1, all of one micro-batch."""
        chunk, start = self.manifest.chunk, low - low % self.micro_batch
        noise = np.zeros((self.micro_batch, *image.shape), dtype=np.float32)  # zeros: the padding is the image itself
        for at in range(low, high, chunk):
            noise[at - start : at - start + chunk] = chunk_noise(seed, at // chunk, (chunk, *image.shape))
        x = self._tensor(image) + sigma * torch.from_numpy(noise).to(self.engine.device)
        labels: NDArray[np.int64] = self._argmax(self.engine.logits(x, sigma)).cpu().numpy()
        return labels[low - start : high - start]

    def _tensor(self, image: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(image).to(self.engine.device)

    @staticmethod
    def _argmax(logits: Tensor) -> Tensor:
        """(N, K) -> int64 (N,). torch.argmax promises no order among equals; ties must go to the lowest index."""
        largest = logits.amax(dim=1, keepdim=True)  # NaN if any logit is
        if not bool(torch.isfinite(largest).all()):
            raise FloatingPointError("the network's logits are not finite")
        places = torch.arange(logits.shape[1], device=logits.device)
        return torch.where(logits == largest, places, logits.shape[1]).amin(dim=1)
