"""noise -> denoise -> classify -> votes, in micro-batches of one fixed shape.

The noise of a request is a stream of samples 0, 1, 2, ... named by (seed, sigma), cut into chunks of `chunk` samples
(models.noise). Image and noise are whole grey steps: what the network sees is a function of integers. Two scales with
one seed would share their random words: sigma must be part of what a seed is derived from (docs/protocol.md, 6).

A sample's vote may not depend on what was asked for around it, and a network's last bits do depend on the batch's
shape and on a sample's place in it. Hence: sample i always stands at place i mod `micro_batch` of a full micro-batch,
and whatever part of that batch was not asked for is padding, computed and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Manifest
from .engines import Engine
from .noise import add_noise, grey_steps, numpy_noise
from .noise_laws import GREY_STEPS, Law, law_of
from .ranges import cut

__all__ = ("Cancelled", "Pipeline", "check_micro_batch")


class Cancelled(Exception):
    """The caller has gone; what it asked for is not computed to its end."""


def check_micro_batch(micro_batch: int, manifest: Manifest) -> None:
    """Raises ValueError unless it is a number of whole chunks."""
    if micro_batch < 1 or micro_batch % manifest.chunk:
        raise ValueError(f"micro_batch: expected a multiple of {manifest.chunk}, got {micro_batch}")


class Pipeline:
    """The base classifier f(image + noise) of a bundle, sampled. Safe to call from several threads.

    An image is (C, H, W) float32, each value n / 255 (models.noise.grey_steps); ValueError for any other.
    """

    def __init__(self, engine: Engine, manifest: Manifest, *, micro_batch: int) -> None:
        """micro_batch: samples in one forward, a multiple of manifest.chunk; part of what a vote depends on."""
        check_micro_batch(micro_batch, manifest)
        self.manifest = manifest
        self.micro_batch = micro_batch
        self.engine = engine
        self.batch_seconds: float | None = None  # of one micro-batch, about, as models.runtime found at the start
        kinds = manifest.noise or ("gaussian",) * len(manifest.sigmas)
        self._laws = {sigma: law_of(kind, sigma) for kind, sigma in zip(kinds, manifest.sigmas, strict=True)}
        self._grey_steps = engine.place(np.full((1, 1, 1), GREY_STEPS, dtype=np.float32))

    def whole(self, sigma: float) -> int | None:
        """How many samples the scale has in all, if they are numbered and not drawn (models.noise); else None."""
        return self._laws[sigma].cell or None

    def votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        """Votes per class, int64 (K,), of samples first..first+count-1; memory does not grow with count.

        first and count: multiples of the bundle's chunk; a scale's last samples, if it has whole(sigma), may be fewer.
        """
        for noise in (self.engine.noise, self._noise):
            batches = self._batches(noise, image, sigma, seed, first, count)
            # Counted where they are: on a CUDA device nothing waits for it until the last batch.
            total = sum(self.engine.counts(labels, len(self.manifest.classes) + 1) for labels in batches)
            *votes, unusable = self.engine.fetch(total).tolist()
            if not unusable:
                return np.array(votes, dtype=np.int64)
        raise _not_finite(unusable, count)

    def parts(
        self,
        image: NDArray[np.float32],
        *,
        sigma: float,
        seed: int,
        first: int,
        count: int,
        cancelled: Callable[[], bool],
    ) -> Iterator[NDArray[np.int64]]:
        """As `votes`, of one micro-batch after another, int64 (K,) each; their sum is `votes`.

        cancelled: asked before each of them; raises Cancelled when it says so.
        """
        for low, high in self._micro_batches(first, count, self.whole(sigma)):
            if cancelled():
                raise Cancelled
            yield self.votes(image, sigma=sigma, seed=seed, first=low, count=high - low)

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
        for noise in (self.engine.noise, self._noise):
            batches = list(self._batches(noise, image, sigma, seed, first, count))  # all, before one is waited for
            labels: NDArray[np.int64] = np.concatenate([self.engine.fetch(labels) for labels in batches])
            unusable = int((labels == len(self.manifest.classes)).sum())
            if not unusable:
                return labels
        raise _not_finite(unusable, count)

    def classify(self, image: NDArray[np.float32]) -> int:
        """The plain classifier's answer on the clean image: no noise, no denoiser; always a batch of one."""
        logits = self.engine.plain(self.engine.place(image)[None])
        label = int(self.engine.fetch(self.engine.labels(logits))[0])
        if label == len(self.manifest.classes):
            raise FloatingPointError("the classifier's logits on the clean image are not finite")
        return label

    def pictures(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """What the network sees of the first `count` samples, and what its denoiser makes of them: each float32
        (count, C, H, W), the noisy ones beyond [0, 1] too; None at a scale without a denoiser.
        """
        law = self._laws[sigma]
        noise = self._noise(law, seed, 0, 1, (count, *image.shape))
        noisy = add_noise(law, self.engine.place(grey_steps(image)), noise, self._grey_steps)
        denoised = [self.engine.denoised(noisy[k : k + 1], sigma) for k in range(count)]
        shown = [self.engine.fetch(each) for each in denoised if each is not None]
        return self.engine.fetch(noisy), np.concatenate(shown) if shown else None

    def _noise(self, law: Law, seed: int, first: int, count: int, shape: tuple[int, ...]) -> Any:
        """As the engine's, with nothing left open: asked when a sample of that had no vote."""
        return self.engine.place(numpy_noise(law, seed, first, count, shape))

    def _batches(
        self, draw: Callable[..., Any], image: NDArray[np.float32], sigma: float, seed: int, first: int, count: int
    ) -> Iterator[Any]:
        """Classes of samples first..first+count-1, int64, in pieces of one micro-batch each, where the engine is."""
        pixels, chunk, law = self.engine.place(grey_steps(image)), self.manifest.chunk, self._laws[sigma]
        for low, high in self._micro_batches(first, count, self.whole(sigma)):
            start = low - low % self.micro_batch
            noise = draw(law, seed, start // chunk, self.micro_batch // chunk, (chunk, *image.shape))
            logits = self.engine.logits(add_noise(law, pixels, noise, self._grey_steps), sigma)
            yield self.engine.labels(logits[low - start : high - start])  # a label may cost: none of padding

    def _micro_batches(self, first: int, count: int, whole: int | None) -> Iterator[tuple[int, int]]:
        """[first, first + count) cut at multiples of micro_batch, as (low, high) samples. whole: whole(sigma)."""
        chunk, beyond = self.manifest.chunk, whole is not None and first + count > whole
        if first < 0 or count < 1 or first % chunk or beyond or (count % chunk and first + count != whole):
            there = "" if whole is None else f", {whole} in all"
            raise ValueError(f"first, count: expected multiples of {chunk} with count > 0{there}, got {first}, {count}")
        return cut(first, count, self.micro_batch)


def _not_finite(unusable: int, count: int) -> FloatingPointError:
    return FloatingPointError(f"the network's logits are not finite for {unusable} of {count} samples")
