"""`make bench`: what the service adds to the bare network, side by side in one run, as ratios.

1. Samples a second of the embedded backend against the reference loop at its best batch and threads, same network.
2. What a 10,000-sample request over HTTP costs beside its bare draws: as many samples at the same scales, asked of the
   backend directly in one piece. The state machine's share is timed alone, on votes that cost nothing.

Everything is alternated in rounds, A B B A, and medians of the rounds' ratios are quoted: a machine that slows down in
between then slows both sides.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.machine import machine
from benchmarks.reference import Reference
from benchmarks.served import service, write_digits
from models.classifier import Classifier
from models.denoiser import Denoiser
from models.runtime import load_pipeline
from service.backends.embedded import EmbeddedBackend
from service.core import Certifier

BUNDLE = "digits"
SAMPLES = 10_000  # the service's default
SIGMA = 0.25  # the middle scale; cost does not depend on it


class Draws(Protocol):
    """What a comparison needs of a backend."""

    async def count_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]: ...


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=12, help="alternations of each comparison (default 12)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {arguments.rounds}")
    figures = asyncio.run(bench(arguments.rounds))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


async def bench(rounds: int) -> dict[str, Any]:
    """Measure and print everything; the figures as JSON values."""
    described = machine()
    for name, value in described.items():
        print(f"{name:<12}  {value}")
    with tempfile.TemporaryDirectory() as folder:
        files = [path for _, path in write_digits(Path(folder))]
        backend = EmbeddedBackend(BUNDLE)
        await backend.open()
        try:
            throughput = await compare_throughput(backend, tensor(files[0]), rounds)
            with service() as served:
                overhead = await compare_http(backend, served.url, files, rounds)
        finally:
            await backend.close()
    machine_ms = time_state_machine()
    share = machine_ms / 1000 / statistics.median(overhead["bare_seconds"])
    print(f"    the state machine, timed alone          {share:>+8.2%}   ({machine_ms:.1f} ms)")
    print("    the rest: workers that wait at the end of a look, and the machine's noise")
    return {"machine": described, "throughput": throughput, "http": {**overhead, "state_machine_ms": machine_ms}}


async def compare_throughput(backend: EmbeddedBackend, image: NDArray[np.float32], rounds: int) -> dict[str, Any]:
    """Samples a second, ours and the reference loop's."""
    pipeline = load_pipeline(BUNDLE)
    folder = Path(__file__).parent.parent / "models" / "bundles" / BUNDLE
    reference = Reference(
        Denoiser.from_folder(folder).eval(), Classifier.from_folder(folder / "classifier").eval(),
        len(pipeline.manifest.classes),
    )  # fmt: skip
    count = 8_192  # a second or so a round
    threads, batch, tried = reference.best(image, sigma=SIGMA, count=count)
    print(f"\nsamples a second, bundle {BUNDLE}, {count} samples at sigma {SIGMA}, {rounds} rounds alternated")
    for name, rate in tried.items():
        progress(f"  reference loop, {name}: {rate:,.0f}")

    import torch

    torch.set_num_threads(threads)
    ours, theirs = [], []

    async def embedded(number: int) -> None:
        began = time.perf_counter()
        await backend.count_votes(image, sigma=SIGMA, seed=number, first=0, count=count)
        ours.append(count / (time.perf_counter() - began))

    def loop() -> None:
        began = time.perf_counter()
        reference.votes(image, sigma=SIGMA, count=count, batch=batch)
        theirs.append(count / (time.perf_counter() - began))

    for number in range(rounds):
        if number % 2:
            loop()
            await embedded(number)
        else:
            await embedded(number)
            loop()
        progress(f"  round {number + 1}/{rounds}: embedded {ours[-1]:,.0f}, reference {theirs[-1]:,.0f}")
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(f"  embedded backend                          {statistics.median(ours):>8,.0f}")
    print(f"  reference loop, {threads} threads, batch {batch:<4}       {statistics.median(theirs):>8,.0f}")
    print(f"  ratio                                     {spread(ratios)}")
    return {"embedded": ours, "reference": theirs, "ratios": ratios, "threads": threads, "batch": batch, "tried": tried}


async def compare_http(backend: Draws, url: str, files: list[Path], rounds: int) -> dict[str, Any]:
    """Seconds of requests over HTTP and of the same draws asked of the backend directly."""
    whole, outside, bare, used = [], [], [], []
    stages: list[dict[str, Any]] = []
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:

        async def over_http(path: Path, number: int) -> float:
            began = time.perf_counter()
            # Another alpha each time: other noise, so that nothing is measured twice by chance.
            fields = {"samples": SAMPLES, "alpha": 1e-3 * (1 - 1e-3 * number)}
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
        used.clear(), outside.clear()
        for number in range(rounds):
            path = files[number % len(files)]
            # Whoever goes second finds a warmer machine, so they take turns.
            if number % 2:
                bare.append(await alone(path))
                whole.append(await over_http(path, number))
            else:
                whole.append(await over_http(path, number))
                bare.append(await alone(path))
            progress(f"  round {number + 1}/{rounds}: HTTP {whole[-1]:.3f} s, its draws alone {bare[-1]:.3f} s")
    added = [a / b - 1 for a, b in zip(whole, bare, strict=True)]
    shares = [a / b for a, b in zip(outside, bare, strict=True)]
    print(f"\nPOST /certify with samples = {SAMPLES:,} ({statistics.mean(used):,.0f} used), {rounds} rounds alternated")
    print(f"  over HTTP                                 {statistics.median(whole):>8.3f} s")
    print(f"  the same draws from the backend, bare     {statistics.median(bare):>8.3f} s")
    print(f"  the service adds                          {spread(added, percent=True)}")
    print(f"    outside sampling (HTTP, image, plan)    {spread(shares, percent=True)}")
    return {"http_seconds": whole, "outside_seconds": outside, "bare_seconds": bare, "added": added, "used": used}


async def draw_bare(backend: Draws, image: NDArray[np.float32], stages: list[dict[str, Any]]) -> None:
    """One call for each stage's pilot and one for its estimation samples: what a loop without any look would do."""
    for stage in stages:
        for seed, count in enumerate((stage["pilot_samples"], stage["samples"])):
            if count:
                await backend.count_votes(image, sigma=stage["sigma"], seed=seed, first=0, count=count)


def time_state_machine() -> float:
    """Milliseconds of one max-mode request's next(), observe() and result() calls, median of 20."""
    chances = np.array([[0.97] + [0.03 / 9] * 9, [0.9] + [0.1 / 9] * 9, [0.7] + [0.3 / 9] * 9])
    random = np.random.default_rng(0)

    def once() -> float:
        certifier = Certifier((0.12, 0.25, 0.5), 10, alpha=1e-3, threshold=0.5, final="plurality", samples=SAMPLES)
        total = 0.0
        while (query := timed(certifier.next)) and query[0] is not None:
            votes = random.multinomial(query[0].count, chances[query[0].level]).tolist()
            total += query[1] + timed(lambda q=query[0], v=votes: certifier.observe(q, v))[1]
        return total + query[1] + timed(certifier.result)[1]

    once()
    return statistics.median(once() for _ in range(20)) * 1000


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    value = call()
    return value, time.perf_counter() - began


def tensor(path: Path) -> NDArray[np.float32]:
    """(1, 8, 8) float32 in [0, 1] of a gray PNG, as the service decodes it."""
    return np.asarray(Image.open(path), dtype=np.float32)[None] / np.float32(255)


def spread(values: list[float], *, percent: bool = False) -> str:
    """Median, and the least and the largest round."""
    form = "{:>+8.2%}" if percent else "{:>8.2f}"
    median, low, high = (form.format(v) for v in (statistics.median(values), min(values), max(values)))
    return f"{median}   (rounds: {low.strip()} to {high.strip()})"


def progress(line: str) -> None:
    """To stderr, so that the table can be kept alone: make bench > table.txt."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
