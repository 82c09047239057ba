"""`python -m benchmarks.soak`: half an hour of mixed load on a gateway and a real Triton server; who grows?

Clients that never rest send radius requests, whole budgets, small budgets, deadlines, images that are none, and some
hang up in the middle. Every ten seconds the memory of the gateway, the server and its stubs (RSS) and its files in
/dev/shm are read. At the end, the last minute is held against the sixth: what starts up has started by then.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from benchmarks.machine import machine, rss
from benchmarks.report import save
from benchmarks.served import DIGITS, Service
from benchmarks.triton import triton_and_gateway
from certify.models.triton.server import TritonServer

CLIENTS = 12
SETTLED_SECONDS = 300.0  # allocators, caches and pools fill in the first minutes
EVERY_SECONDS = 10.0
WINDOW_SECONDS = 60.0  # one reading alone catches a request at its worst moment
LIMIT = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30, help="at least 7 (default 30)")
    parser.add_argument("--json", type=Path, help="write every reading here")
    arguments = parser.parse_args()
    if arguments.minutes * 60 < SETTLED_SECONDS + 2 * WINDOW_SECONDS:
        parser.error(f"--minutes: expected at least 7, got {arguments.minutes:g}")
    figures = asyncio.run(soak(arguments.minutes * 60))
    if arguments.json:
        save(figures, arguments.json)
    if max(figures["growth"].values()) > LIMIT:
        raise SystemExit(f"something grew by more than {LIMIT:.0%}")


async def soak(seconds: float) -> dict[str, Any]:
    """Load it, watch it, print what came of it."""
    described = machine()
    for name, value in described.items():
        print(f"{name:<12}  {value}")
    with tempfile.TemporaryDirectory() as folder, triton_and_gateway(Path(folder)) as (server, gateway):
        images = [path.read_bytes() for path in DIGITS]
        outcomes: Counter[str] = Counter()
        busy, began = busy_seconds(), time.monotonic()
        clients = [asyncio.create_task(client(gateway.url, images, outcomes, number)) for number in range(CLIENTS)]
        readings = await watch(server, gateway, clients, outcomes, seconds)
        share = (busy_seconds() - busy) / (time.monotonic() - began) / len(os.sched_getaffinity(0))
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    growth = report(readings)
    print(f"\ncores busy {share:.0%}; " + ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items())))
    return {
        "machine": described, "readings": readings, "growth": growth, "busy": share, "outcomes": dict(outcomes)
    }  # fmt: skip


async def watch(
    server: TritonServer, gateway: Service, clients: list[asyncio.Task[None]], outcomes: Counter[str], seconds: float
) -> list[dict[str, float]]:
    """A reading every ten seconds, bytes by name, and "seconds" since the beginning."""
    readings = []
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        for task in clients:
            if task.done():
                task.result()  # raises what went wrong
        stubs = server.stub_pids()
        sizes = {"gateway": rss(gateway.pid), "server": rss(server.pid), "stubs": sum(map(rss, stubs))}
        readings.append({"seconds": now, **sizes, "shm": shared_memory(server)})
        text = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in readings[-1].items() if name != "seconds")
        print(f"{now / 60:6.1f} min  MiB: {text}; {sum(outcomes.values()):,} requests", file=sys.stderr, flush=True)
        await asyncio.sleep(EVERY_SECONDS)
    return readings


async def client(url: str, images: list[bytes], outcomes: Counter[str], number: int) -> None:
    """Requests of every kind, one after another, until cancelled. Raises when an answer is not the kind's."""
    random_ = random.Random(number)
    kinds: list[tuple[str, dict[str, Any], int]] = [
        ("radius", {"radius": 0.25}, 200),
        ("radius_linf", {"radius": 0.02, "norm": "linf"}, 200),
        ("budget", {}, 200),
        ("small", {"samples": 1000}, 200),
        ("deadline", {"samples": 100_000, "deadline_ms": 2_000}, 200),
        ("hang_up", {"samples": 100_000}, 0),
        ("not_an_image", {}, 415),
        ("out_of_range", {"alpha": 2}, 422),
    ]
    weights = [8, 2, 2, 4, 2, 1, 1, 1]
    async with httpx.AsyncClient(base_url=url, timeout=300) as http:
        while True:
            ((kind, fields, status),) = random_.choices(kinds, weights)
            image = b"not an image" if kind == "not_an_image" else random_.choice(images)
            # Another alpha each time: other noise.
            data = {"alpha": random_.randint(50, 99) / 1e5, **fields}
            try:
                timeout = random_.uniform(0.2, 3) if kind == "hang_up" else 300
                reply = await http.post("/certify", files={"image": image}, data=data, timeout=timeout)
            except httpx.ReadTimeout:
                outcomes["hung up"] += 1
                continue
            # A deadline that comes before the first look is complete is a 504; a hang-up may come too late.
            expected = {status, 504} if kind == "deadline" else {status or 200}
            if reply.status_code not in expected:
                raise RuntimeError(f"{kind}: expected {expected}, got {reply.status_code}: {reply.text}")
            outcomes[f"answered {reply.status_code}"] += 1


def report(readings: list[dict[str, float]]) -> dict[str, float]:
    """Print the table; growth by name, as a share."""
    end = readings[-1]["seconds"]
    early = [r for r in readings if SETTLED_SECONDS <= r["seconds"] < SETTLED_SECONDS + WINDOW_SECONDS]
    late = [r for r in readings if r["seconds"] > end - WINDOW_SECONDS]
    growth = {}
    print(f"\n{'MiB':<10} {'minute 6':>10} {'last':>10} {'most':>10} {'growth':>8}")
    for name in ("gateway", "server", "stubs", "shm"):
        first, last = (statistics.mean(r[name] for r in part) for part in (early, late))
        most = max(r[name] for r in readings)
        growth[name] = last / first - 1 if first else float(last > 0)
        cells = " ".join(f"{size / 2**20:>10.1f}" for size in (first, last, most))
        print(f"{name:<10} {cells} {growth[name]:>+8.1%}")
    return growth


def shared_memory(server: TritonServer) -> int:
    """Bytes that the server's files in /dev/shm take."""
    return sum(path.stat().st_blocks * 512 for path in server.shared_memory())


def busy_seconds() -> float:
    """Processor seconds spent by the whole machine since it started."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
