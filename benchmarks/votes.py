"""Votes of a data set for the tables: drawn in this process with service.research, kept in a file, gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import progress
from certify.models.bundle import Final
from certify.models.datasets import DataSet
from certify.models.engines import Engine
from certify.models.pipeline import Pipeline
from certify.models.runtime import RuntimeOptions
from certify.service.answering.fields import parse_texts
from certify.service.backends.embedded import EmbeddedBackend
from certify.service.core import Certifier
from certify.service.errors import DataError
from certify.service.research.certifiers import LocalCertifier
from certify.service.research.curves import Curve
from certify.service.research.threshold_choice import tune
from certify.service.research.votes_file import VotesFile, load_votes
from certify.service.research.votes_file_parts import open_votes
from certify.service.settings import load_settings

__all__ = ("SEED", "SLACK", "Undenoised", "adaptive", "choose", "majorities", "votes_of")

SEED = 1  # of all noise
# Certified accuracy at 0 may fall half a point below the best single scale's: what a larger ACR may cost.
SLACK = 0.005
EVERY = 10  # images between two lines of progress


def votes_of(
    dataset: DataSet,
    bundle: str | Path,
    path: Path,
    samples: int,
    *,
    first: int = 0,
    limit: int | None = None,
    sigmas: Sequence[float] = (),
    device: str = "cpu",
    backend: type[EmbeddedBackend] = EmbeddedBackend,
) -> VotesFile:
    """`samples` votes at each of the bundle's scales, or of those of them in `sigmas`, in whole chunks.

    Of the images from position `first` up to `limit` (None: to the end). Draws what `path` lacks, and lets other images
    in it be: they are not among what is returned. backend: whose votes.
    """
    asked = {"samples": [str(samples)], **({"sigmas": [",".join(map(str, sigmas))]} if sigmas else {})}
    positions = range(len(dataset))[first:limit]
    votes = asyncio.run(_draw(dataset, positions, backend(bundle, device=device), path, asked))
    return votes.part(np.flatnonzero(np.isin(votes.idx, [dataset.idx[position] for position in positions])).tolist())


async def _draw(
    dataset: DataSet, positions: range, backend: EmbeddedBackend, path: Path, asked: Mapping[str, list[str]]
) -> VotesFile:
    await backend.open()
    try:
        settings, fields = load_settings(max_samples=int(asked["samples"][0])), parse_texts(asked)
        about = LocalCertifier(backend, settings, fields, policy="best", seed=SEED).votes_facts()
        data = {"data": dataset.name, "split": dataset.split, "data_digest": dataset.digest()}
        with open_votes(path, backend.info(), {**data, **about}) as parts:
            recorder = LocalCertifier(backend, settings, fields, policy="best", seed=SEED, votes=parts)
            labels = dataset.labels_in(recorder.classes)
            for position in positions:
                if parts.get(idx := dataset.idx[position]) is None:
                    await recorder.certify(idx, labels[position], dataset.read(position))
                    if (position + 1) % EVERY == 0:
                        progress(f"  {path.stem}: image {position + 1} of {positions.stop}")
            parts.finish()
    finally:
        await backend.close()
    return load_votes(path)


class Undenoised(EmbeddedBackend):
    """Votes of the classifier on the noisy images themselves, over the same noise: what the denoiser is worth."""

    def _load(self, options: RuntimeOptions) -> Pipeline:
        whole = super()._load(options)
        return Pipeline(_WithoutDenoiser(whole.engine), whole.manifest, micro_batch=whole.micro_batch)


class _WithoutDenoiser:
    """An engine whose denoiser does nothing."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.dtype, self.device = engine.name, engine.dtype, engine.device
        self.place, self.fetch, self.noise, self.plain = engine.place, engine.fetch, engine.noise, engine.plain
        self.labels, self.counts = engine.labels, engine.counts

    def logits(self, noisy: Any, sigma: float) -> Any:
        return self.plain(noisy)

    def denoised(self, noisy: Any, sigma: float) -> None:
        return None


def adaptive(votes: VotesFile, samples: int, thresholds: list[float], final: Final) -> Curve:
    """The service's own sampler with `samples` draws in all, in whole chunks, replayed from the votes.

    Its pilots are the last draws of each scale, which no look reaches: a scale's looks and pilot are at most `samples`
    together. Raises DataError when the file has fewer at each scale.
    """
    if samples // votes.chunk * votes.chunk > votes.samples:
        raise DataError(f"samples: expected at most {votes.samples}, as the file has at each scale, got {samples}")
    sums = np.concatenate([np.zeros_like(votes.votes[:, :, :1]), votes.votes.cumsum(axis=2)], axis=2)
    outcomes = []
    for i in range(len(votes.idx)):
        certifier = Certifier(
            votes.cascade(thresholds, final),
            votes.pilot.shape[-1],
            alpha=float(votes.alpha),
            samples=samples,
            chunk=votes.chunk,
            grain=votes.grain,
        )
        while (query := certifier.next()) is not None:
            first = votes.samples - certifier.pilot + query.first if query.purpose == "pilot" else query.first
            low, high = first // votes.chunk, (first + query.count) // votes.chunk
            certifier.observe(query, (sums[i, query.level, high] - sums[i, query.level, low]).tolist())
        outcomes.append(certifier.result())
    return Curve(
        name=f"the service, {samples} in all",
        policy="best",
        sigma=None,
        final=final,
        correct=np.array([o.label == truth for o, truth in zip(outcomes, votes.labels.tolist(), strict=True)]),
        abstained=np.array([o.label is None for o in outcomes]),
        radius=np.array([o.radius for o in outcomes]),
        samples=np.array([o.samples_used for o in outcomes]),
    )


def choose(votes: VotesFile) -> tuple[tuple[float, ...], float]:
    """(thresholds, their ACR) for the largest ACR by plurality that keeps the default floor under the accuracy at 0.

    votes: of images that nothing is judged by.
    """
    choice = tune(votes, target=None, shared=False, final="plurality")
    return choice.candidates[choice.chosen], choice.curves[choice.chosen].acr


def majorities(votes: VotesFile, level: int) -> tuple[float, float, float]:
    """Shares of the images at a scale on which the true class, a wrong class, no class has more than half the draws."""
    counts = votes.counts()[:, level]
    decided = 2 * counts.max(axis=1) > votes.samples
    right = decided & (counts.argmax(axis=1) == votes.labels)
    return float(np.mean(right)), float(np.mean(decided & ~right)), float(np.mean(~decided))
