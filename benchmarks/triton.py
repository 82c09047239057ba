"""`make bench-triton`: what a real Triton server makes of many requests at once, and what it costs one.

1. 32 clients that ask for a radius, over and over: how many requests one execute() is handed, how long an answer takes.
2. The same with a request of 100,000 samples beside them: what it does to their 95th percentile.
3. One request of 10,000 samples through gateway and server, against the same draws in a bare loop over the pipeline in
   one process, and against the embedded backend's threads.

Server, gateway and clients share this machine. Everything that is compared is alternated in rounds in one run.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.crowd import Spell, crowd
from benchmarks.machine import machine
from benchmarks.overhead import compare_http, text
from benchmarks.report import progress, save, spread
from benchmarks.served import DIGITS, Service, service
from certify.models.bundle import find_bundle
from certify.models.export import export
from certify.models.runtime import limit_threads, load_pipeline
from certify.models.triton.server import TritonServer
from certify.service.backends.embedded import EmbeddedBackend

BUNDLE = "digits"
CLIENTS = 32
RADIUS = 0.25
LONG_SAMPLES = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.triton", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6, help="alternations of each comparison (default 6)")
    parser.add_argument("--seconds", type=float, default=15, help="of load in a round of the first two (default 15)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or not arguments.seconds > 0:
        parser.error("--rounds and --seconds: expected more than 0")
    figures = asyncio.run(bench(arguments.rounds, arguments.seconds))
    if arguments.json:
        save(figures, arguments.json)


async def bench(rounds: int, seconds: float) -> dict[str, Any]:
    """Measure and print everything; the figures as JSON values."""
    described = machine()
    for name, value in described.items():
        print(f"{name:<12}  {value}")
    with tempfile.TemporaryDirectory() as folder, triton_and_gateway(Path(folder)) as (server, gateway):
        crowd = await measure_crowd(server, gateway, DIGITS, rounds, seconds)
        one = await measure_one(gateway, DIGITS, rounds)
    return {"machine": described, "crowd": crowd, "one": one}


@contextmanager
def triton_and_gateway(folder: Path) -> Iterator[tuple[TritonServer, Service]]:
    """A server with one instance for each core, and a gateway in front of it."""
    export(find_bundle(BUNDLE), folder / "repository")
    with TritonServer(folder / "repository", log=folder / "triton.log") as server:
        with service("--backend", "triton", "--triton-url", server.url) as gateway:
            yield server, gateway


async def measure_crowd(
    server: TritonServer, gateway: Service, files: Sequence[Path], rounds: int, seconds: float
) -> dict[str, Any]:
    """Parts 1 and 2."""
    images = [path.read_bytes() for path in files]
    alone: dict[str, list[float]] = {"p50": [], "p95": [], "per_execute": [], "answers_a_second": []}
    beside: dict[str, list[float]] = {name: [] for name in alone}
    limits = httpx.Limits(max_connections=CLIENTS + 1)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=600, limits=limits) as client:
        await run_crowd(client, images, min(3.0, seconds))  # warms up
        for number in range(rounds):
            for long in (False, True) if number % 2 == 0 else (True, False):
                figures = await one_round(server, client, images, seconds, long=long)
                for name, value in figures.items():
                    (beside if long else alone)[name].append(value)
                progress(
                    f"  round {number + 1}/{rounds}, {'beside a long one' if long else 'alone':<17}: p95 "
                    f"{figures['p95']:.2f} s, {figures['per_execute']:.1f} requests an execute()"
                )
    ratios = [b / a for a, b in zip(alone["p95"], beside["p95"], strict=True)]
    print(f"\n{CLIENTS} clients, radius {RADIUS}, {rounds} rounds of {seconds:g} s alternated")
    print(f"  requests in one execute(), mean           {spread(alone['per_execute'])}")
    print(f"  answers a second                          {spread(alone['answers_a_second'])}")
    print(f"  seconds to an answer, median              {spread(alone['p50'])}")
    print(f"  seconds to an answer, 95th percentile     {spread(alone['p95'])}")
    print(f"  the same beside {LONG_SAMPLES:,} samples           {spread(beside['p95'])}")
    print(f"  ratio                                     {spread(ratios)}")
    return {"alone": alone, "beside": beside, "p95_ratios": ratios}


async def one_round(
    server: TritonServer, client: httpx.AsyncClient, images: list[bytes], seconds: float, *, long: bool
) -> dict[str, float]:
    """One spell of load; with `long`, a long request is under way for the whole of it."""
    other = asyncio.create_task(long_requests(client, images[0])) if long else None
    await asyncio.sleep(0.5 if long else 0)
    before = server_counts(server)
    spell = await run_crowd(client, images, seconds)
    after = server_counts(server)
    if other:
        if other.done():
            other.result()  # raises what went wrong
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
    return {
        "p50": spell.quantile(0.5),
        "p95": spell.quantile(0.95),
        "per_execute": (after[0] - before[0]) / (after[1] - before[1]),
        "answers_a_second": spell.rate,
    }


async def run_crowd(client: httpx.AsyncClient, images: list[bytes], seconds: float) -> Spell:
    async def ask(number: int) -> None:
        image = images[number % len(images)]
        reply = await client.post("/certify", files={"image": image}, data={"radius": RADIUS})
        reply.raise_for_status()

    return await crowd(ask, clients=CLIENTS, seconds=seconds)


async def long_requests(client: httpx.AsyncClient, image: bytes) -> None:
    while True:
        reply = await client.post("/certify", files={"image": image}, data={"samples": LONG_SAMPLES})
        reply.raise_for_status()


def server_counts(server: TritonServer) -> tuple[int, int]:
    """(requests executed, calls of execute()) so far."""
    text = httpx.get(f"http://127.0.0.1:{server.metrics_port}/metrics").text
    matches = [re.search(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE) for name in
             ("nv_inference_count", "nv_inference_exec_count")]  # fmt: skip
    first, second = (int(float(match[1])) for match in matches if match)
    return first, second


async def measure_one(gateway: Service, files: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Part 3."""
    loop = await compare_http(BareLoop(), gateway.url, files, rounds)
    print(f"\nagainst a bare loop over the pipeline in one process, one thread\n\n{text(loop)}")
    backend = EmbeddedBackend(BUNDLE)
    await backend.open()
    try:
        embedded = await compare_http(backend, gateway.url, files, rounds)
        print(f"\nagainst the embedded backend, a thread for each core\n\n{text(embedded)}\n")
    finally:
        await backend.close()
    for name, figures in (("bare loop", loop), ("embedded", embedded)):
        print(f"time through Triton / {name:<12}: {1 + statistics.median(figures['added']):.2f}")
    return {"bare_loop": loop, "embedded": embedded}


class BareLoop:
    """The pipeline called as it is: what `compare_http` draws from, without a thread or a queue of ours."""

    def __init__(self) -> None:
        limit_threads()
        self._pipeline = load_pipeline(BUNDLE)

    async def count_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        return self._pipeline.votes(image, sigma=sigma, seed=seed, first=first, count=count)


if __name__ == "__main__":
    main()
