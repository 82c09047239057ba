"""Samples a second: a bundle's default engine behind the embedded backend, and the reference loop, in turns."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch

from benchmarks.reference import Reference
from benchmarks.report import progress, spread, table
from certify.service.backends.embedded import EmbeddedBackend

__all__ = ("compare", "text")


async def compare(bundle: str, backend: EmbeddedBackend, *, rounds: int, seconds: float) -> dict[str, Any]:
    """backend: open, of that bundle. seconds: about how long each side runs in each round."""
    info = backend.info()
    # Cost depends neither on the image nor on the scale.
    image = np.full(info.input_shape, 0.2, dtype=np.float32)
    sigma, step = info.sigmas[0], info.grain * backend.workers

    async def embedded(seed: int, count: int) -> float:
        began = time.perf_counter()
        await backend.count_votes(image, sigma=sigma, seed=seed, first=0, count=count)
        return count / (time.perf_counter() - began)

    reference = Reference(bundle)
    threads, batch, tried = reference.best(image, sigma=sigma, threads=backend.workers, seconds=seconds / 2)
    for name, rate in tried.items():
        progress(f"  {bundle}: reference loop, {name}: {rate:,.0f} a second")
    torch.set_num_threads(threads)
    await embedded(0, step)  # warms up
    count = max(1, round(seconds * await embedded(1, step) / step)) * step
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(rounds):
        for side in ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours"):
            if side == "ours":
                ours.append(await embedded(number, count))
            else:
                theirs.append(reference.rate(image, sigma=sigma, batch=batch, seconds=seconds))
        progress(f"  {bundle}: round {number + 1}/{rounds}: embedded {ours[-1]:,.0f}, reference {theirs[-1]:,.0f}")
    return {
        "engine": info.runtime.engine,
        "dtype": info.runtime.dtype,
        "micro_batch": info.grain,
        "workers": backend.workers,
        "embedded": ours,
        "reference": theirs,
        "ratios": [a / b for a, b in zip(ours, theirs, strict=True)],
        "reference_threads": threads,
        "reference_batch": batch,
        "tried": tried,
        "reference_rate": statistics.median(theirs),
        "rate": statistics.median(ours),
    }


def text(figures: dict[str, dict[str, Any]]) -> str:
    """figures: by bundle."""
    rows = [
        [
            name,
            f"{f['engine']}, {f['dtype']}, micro-batch {f['micro_batch']}, {f['workers']} workers",
            spread(f["embedded"], "{:,.0f}"),
            f"batch {f['reference_batch']}, {f['reference_threads']} threads",
            spread(f["reference"], "{:,.0f}"),
            f"**{spread(f['ratios'])}**",
        ]
        for name, f in figures.items()
    ]
    rounds = len(next(iter(figures.values()))["ratios"])
    return (
        f"Samples a second, {rounds} rounds alternated: medians, in brackets the least and the largest round. The "
        "reference loop is torch in float32, at the batch and threads that suit it best.\n\n"
        + table(["bundle", "engine", "samples a second", "reference loop", "samples a second", "ratio"], rows)
    )
