"""What a 10,000-sample request over HTTP costs beside its bare draws: as many samples at the same scales, asked of a
backend directly and in one piece. The state machine's share is timed alone, on votes that cost nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.report import progress, spread, table
from certify.service.core import Cascade, Certifier

__all__ = ("Draws", "compare_http", "text", "time_state_machine")

SAMPLES = 10_000  # the service's default


class Draws(Protocol):
    """What a comparison needs of a backend."""

    async def count_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]: ...


async def compare_http(backend: Draws, url: str, files: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Seconds of requests over HTTP and of the same draws asked of the backend directly."""
    whole, outside, bare, used = [], [], [], []
    stages: list[dict[str, Any]] = []
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:

        async def over_http(path: Path, number: int) -> float:
            began = time.perf_counter()
            # Another alpha each time: other noise, so that nothing is measured twice by chance.
            fields = {"samples": SAMPLES, "alpha": (99 - number % 90) / 1e5}
            reply = await client.post("/certify", files={"image": path.read_bytes()}, data=fields)
            seconds = time.perf_counter() - began
            answer = reply.raise_for_status().json()
            stages[:] = answer["stages"]
            used.append(answer["samples_used"])
            outside.append(seconds - answer["timing"]["sampling_seconds"])
            return seconds

        async def alone(path: Path) -> float:
            began = time.perf_counter()
            await draw_bare(backend, tensor(path), stages)
            return time.perf_counter() - began

        await over_http(files[0], -1)  # warms up, and tells the first round how many draws it takes
        used.clear()
        outside.clear()
        for number in range(rounds):
            path = files[number % len(files)]
            # The second finds a warmer machine: they take turns.
            if number % 2:
                bare.append(await alone(path))
                whole.append(await over_http(path, number))
            else:
                whole.append(await over_http(path, number))
                bare.append(await alone(path))
            progress(f"  round {number + 1}/{rounds}: HTTP {whole[-1]:.3f} s, its draws alone {bare[-1]:.3f} s")
    return {
        "http_seconds": whole,
        "outside_seconds": outside,
        "bare_seconds": bare,
        "added": [a / b - 1 for a, b in zip(whole, bare, strict=True)],
        "outside": [a / b for a, b in zip(outside, bare, strict=True)],
        "used": used,
    }


def text(figures: dict[str, Any], state_machine_seconds: float | None = None) -> str:
    """Of compare_http(), and of time_state_machine() where it was timed."""
    bare, percent = statistics.median(figures["bare_seconds"]), "{:+.2%}"
    rows = [
        ["over HTTP", spread(figures["http_seconds"], "{:.3f} s")],
        ["the same draws from the backend, bare", spread(figures["bare_seconds"], "{:.3f} s")],
        ["the service adds", f"**{spread(figures['added'], percent)}**"],
        ["of that outside sampling: HTTP, image, plan", spread(figures["outside"], percent)],
    ]
    if state_machine_seconds is not None:
        share = percent.format(state_machine_seconds / bare)
        rows.append(["of that the state machine, timed alone", f"{share} ({state_machine_seconds * 1000:.1f} ms)"])
        rows.append(["the rest", "workers that wait at the end of a look, and the machine's noise"])
    used = statistics.mean(figures["used"])
    head = f"samples = {SAMPLES:,} ({used:,.0f} used), {len(figures['added'])} rounds alternated"
    return table([f"`POST /certify`, {head}", ""], rows)


async def draw_bare(backend: Draws, image: NDArray[np.float32], stages: list[dict[str, Any]]) -> None:
    """One call for each stage's pilot and one for its estimation samples: what a loop without any look would do."""
    for stage in stages:
        for seed, count in enumerate((stage["pilot_samples"], stage["samples"])):
            if count:
                await backend.count_votes(image, sigma=stage["sigma"], seed=seed, first=0, count=count)


def time_state_machine() -> float:
    """Seconds of one max-mode request's next(), observe() and result() calls, median of 20."""
    chances = np.array([[0.97] + [0.03 / 9] * 9, [0.9] + [0.1 / 9] * 9, [0.7] + [0.3 / 9] * 9])
    random = np.random.default_rng(0)

    def once() -> float:
        certifier = Certifier(Cascade.of((0.12, 0.25, 0.5)), 10, samples=SAMPLES)
        total = 0.0
        while (query := timed(certifier.next)) and query[0] is not None:
            votes = random.multinomial(query[0].count, chances[query[0].level]).tolist()
            total += query[1] + timed(partial(certifier.observe, query[0], votes))[1]
        return total + query[1] + timed(certifier.result)[1]

    once()
    return statistics.median(once() for _ in range(20))


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    value = call()
    return value, time.perf_counter() - began


def tensor(path: Path) -> NDArray[np.float32]:
    """(1, 8, 8) float32 in [0, 1] of a gray PNG, as the service decodes it."""
    return np.asarray(Image.open(path), dtype=np.float32)[None] / np.float32(255)
