"""The loop that everybody starts from, to be measured against: what `_sample_noise` of locuslab/smoothing does.

Repeat the image, add torch.randn_like, run the network in float32 as it is, count in a Python loop. It has no keyed
noise: nothing can be repeated or shared out. Its batch size and threads are ours to choose; the best are found first.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from certify.models.bundle import find_bundle, load_manifest
from certify.models.classifier import Classifier
from certify.models.denoiser import Denoiser
from certify.models.ranges import cut

__all__ = ("BATCHES", "Reference")

# From less to more than any CPU was fastest at: 16 suits networks of gigaflops, 128 to 2048 small ones.
BATCHES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Reference:
    """The same networks as the service's, in a plain loop."""

    def __init__(self, bundle: str | Path) -> None:
        folder = find_bundle(bundle)
        self.denoiser = Denoiser.from_folder(folder).float().eval()
        self.classifier = Classifier.from_folder(folder / "classifier").float().eval()
        self.classes = len(load_manifest(folder).classes)

    @torch.inference_mode()
    def votes(self, image: NDArray[np.float32], *, sigma: float, count: int, batch: int) -> NDArray[np.int64]:
        """Votes per class over `count` samples. image: (C, H, W) in [0, 1]."""
        x = torch.from_numpy(image)
        counts = np.zeros(self.classes, dtype=np.int64)
        for low, high in cut(0, count, batch):
            repeated = x.repeat((high - low, 1, 1, 1))
            noisy = repeated + torch.randn_like(repeated) * sigma
            for label in self.classifier(self.denoiser.denoise(noisy, sigma)).argmax(1).cpu().numpy():
                counts[label] += 1
        return counts

    def rate(self, image: NDArray[np.float32], *, sigma: float, batch: int, seconds: float) -> float:
        """Samples a second over whole batches, for at least `seconds`."""
        began, count = time.perf_counter(), 0
        while not count or time.perf_counter() - began < seconds:
            self.votes(image, sigma=sigma, count=batch, batch=batch)
            count += batch
        return count / (time.perf_counter() - began)

    def best(
        self, image: NDArray[np.float32], *, sigma: float, threads: int, seconds: float
    ) -> tuple[int, int, dict[str, float]]:
        """(threads, batch, samples a second of each), by `seconds` of each after a pass that warms up.

        With one thread and with `threads`. Batches grow until one is a fifth slower than the best: larger ones are
        slower still.
        """
        rates: dict[tuple[int, int], float] = {}
        for number in sorted({1, threads}):
            torch.set_num_threads(number)
            fastest = 0.0
            for batch in BATCHES:
                self.votes(image, sigma=sigma, count=batch, batch=batch)
                rates[(number, batch)] = rate = self.rate(image, sigma=sigma, batch=batch, seconds=seconds)
                fastest = max(fastest, rate)
                if rate < 0.8 * fastest:
                    break
        threads, batch = max(rates, key=lambda pair: rates[pair])
        return threads, batch, {f"{t} threads, batch {b}": rate for (t, b), rate in rates.items()}
