"""The loop that everybody starts from, to be measured against: what `_sample_noise` of locuslab/smoothing does.

Repeat the image, add torch.randn_like, run the network in float32 as it is, count in a Python loop. It has no keyed
noise: nothing can be repeated or shared out. Its batch size and threads are ours to choose; the best are found first.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray

from models.classifier import Classifier
from models.denoiser import Denoiser

__all__ = ("BATCHES", "Reference")

BATCHES = (32, 64, 128, 256, 512)


class Reference:
    """The same networks as the service's, in a plain loop."""

    def __init__(self, denoiser: Denoiser, classifier: Classifier, classes: int) -> None:
        self.denoiser = denoiser
        self.classifier = classifier
        self.classes = classes

    @torch.inference_mode()
    def votes(self, image: NDArray[np.float32], *, sigma: float, count: int, batch: int) -> NDArray[np.int64]:
        """Votes per class over `count` samples. image: (C, H, W) in [0, 1]."""
        x = torch.from_numpy(image)
        counts = np.zeros(self.classes, dtype=np.int64)
        for low in range(0, count, batch):
            repeated = x.repeat((min(batch, count - low), 1, 1, 1))
            noisy = repeated + torch.randn_like(repeated) * sigma
            for label in self.classifier(self.denoiser.denoise(noisy, sigma)).argmax(1).cpu().numpy():
                counts[label] += 1
        return counts

    def best(self, image: NDArray[np.float32], *, sigma: float, count: int) -> tuple[int, int, dict[str, float]]:
        """(threads, batch, samples a second of each) by one timed pass of each after one that warms up."""
        rates = {}
        for threads in sorted({1, torch.get_num_threads()}):
            for batch in BATCHES:
                torch.set_num_threads(threads)
                self.votes(image, sigma=sigma, count=batch, batch=batch)
                began = time.perf_counter()
                self.votes(image, sigma=sigma, count=count, batch=batch)
                rates[(threads, batch)] = count / (time.perf_counter() - began)
        threads, batch = max(rates, key=lambda pair: rates[pair])
        return threads, batch, {f"{t} threads, batch {b}": rate for (t, b), rate in rates.items()}
