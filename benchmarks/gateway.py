"""What the gateway costs by itself, and how much of the machine's draws its clients get.

cost: processor time of an answer on the fake backend, over that of a bare FastAPI endpoint (benchmarks/bare.py) which
takes the same form and returns the same JSON. shares: of the embedded backend's bare rate, what 1, 8 and 32 clients
get over HTTP; for a client alone, the time of an answer over that of its draws; and what was drawn ahead. Load comes
from a process that costs little (benchmarks/load.py), on the same cores.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.load import Load, load
from benchmarks.machine import cpu_seconds
from benchmarks.report import progress, spread, table
from benchmarks.served import DIGITS, service
from certify.models.triton.server import free_ports
from certify.service.backends.embedded import EmbeddedBackend

__all__ = ("cost", "cost_text", "shares", "shares_text")

ASKED: dict[str, dict[str, object]] = {"radius 0.25": {"radius": 0.25}, "10,000 samples": {"samples": 10_000}}
CLIENTS = (1, 8, 32)
IMAGES = DIGITS[0].parent


def cost(*, rounds: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of processor time an answer, by what is asked, of each side; in rounds."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, service("--backend", "fake") as served:
        folder, port = Path(name), int(served.url.rsplit(":", 1)[1])
        for asked, fields in ASKED.items():
            reply = httpx.post(f"{served.url}/certify", files={"image": DIGITS[0].read_bytes()}, data=fields)
            with _bare(folder, reply.raise_for_status().json()) as (bare_port, bare_pid):
                sides = {"gateway": (port, served.pid), "bare": (bare_port, bare_pid)}
                spent: dict[str, list[float]] = {side: [] for side in sides}
                for number in range(rounds + 1):
                    for side, (at, pid) in sides.items() if number % 2 == 0 else reversed(sides.items()):
                        before = cpu_seconds(pid)
                        spell = load(at, IMAGES, fields, clients=1, seconds=seconds)
                        if number:  # the first warms up
                            spent[side].append((cpu_seconds(pid) - before) / len(spell.seconds) * 1000)
            ratios = [a / b for a, b in zip(spent["gateway"], spent["bare"], strict=True)]
            figures[asked] = {**spent, "ratios": ratios}
            progress(f"  {asked}: {spread(spent['gateway'])} ms of processor time, {spread(ratios)} times bare FastAPI")
    return figures


def cost_text(figures: dict[str, Any]) -> str:
    rows = [
        [asked, spread(f["gateway"], "{:.2f} ms"), spread(f["bare"], "{:.2f} ms"), f"**{spread(f['ratios'])}**"]
        for asked, f in figures.items()
    ]
    head = ["an answer on the fake backend", "processor time, gateway", "a bare FastAPI endpoint", "ratio"]
    return table(head, rows)


async def shares(*, rounds: int, seconds: float) -> dict[str, Any]:
    """By what is asked and number of clients: of the bare rate, in rounds. And what was drawn ahead."""
    backend = EmbeddedBackend("digits")
    await backend.open()
    figures: dict[str, Any] = {"clients": {}, "lone": {}, "generator": []}
    try:
        with service() as served:
            port = int(served.url.rsplit(":", 1)[1])
            load(port, IMAGES, ASKED["radius 0.25"], clients=2, seconds=seconds)  # warms up
            for number in range(rounds):
                for asked, fields in ASKED.items():
                    for clients in CLIENTS if asked == "radius 0.25" else CLIENTS[:1]:
                        before = await _bare_rate(backend, seconds / 2)
                        spell = load(port, IMAGES, fields, clients=clients, seconds=seconds)
                        rate = (before + await _bare_rate(backend, seconds / 2)) / 2
                        _note(figures, asked, clients, spell, rate)
                progress(f"  shares, round {number + 1}/{rounds}")
            figures["ahead"] = _ahead(httpx.get(f"{served.url}/metrics").text)
    finally:
        await backend.close()
    return figures


def shares_text(figures: dict[str, Any]) -> str:
    rows = [
        [f"{asked}, {clients} client{'s' * (clients > 1)}", f"**{spread(values, '{:.0%}')}**"]
        for asked, by_clients in figures["clients"].items()
        for clients, values in ((int(key), value) for key, value in by_clients.items())
    ]
    rows += [
        [f"{asked}, alone: time of an answer over that of its draws at the bare rate", f"**{spread(values)}**"]
        for asked, values in figures["lone"].items()
    ]
    rows.append(["the load generator's processor time an answer", spread(figures["generator"], "{:.2f} ms")])
    used, dropped = figures["ahead"]["used"], figures["ahead"]["dropped"]
    rows.append(["samples drawn ahead and used, and in vain", f"{used:,.0f}, {dropped:,.0f}"])
    return table(["digits over HTTP", "of the backend's bare rate"], rows)


def _note(figures: dict[str, Any], asked: str, clients: int, spell: Load, rate: float) -> None:
    share = sum(spell.samples) / spell.elapsed / rate
    figures["clients"].setdefault(asked, {}).setdefault(str(clients), []).append(share)
    figures["generator"].append(spell.cpu_seconds / len(spell.seconds) * 1000)
    if clients == 1:
        ratios = [took * rate / samples for took, samples in zip(spell.seconds, spell.samples, strict=True)]
        figures["lone"].setdefault(asked, []).append(statistics.median(ratios))


async def _bare_rate(backend: EmbeddedBackend, seconds: float) -> float:
    """Samples a second of calls of many micro-batches, for about so long."""
    info = backend.info()
    image = np.full(info.input_shape, 0.2, dtype=np.float32)
    count, drawn, began = 16 * info.grain * backend.workers, 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        await backend.count_votes(image, sigma=info.sigmas[0], seed=drawn, first=0, count=count)
        drawn += count
    return drawn / (time.perf_counter() - began)


def _ahead(metrics: str) -> dict[str, float]:
    found = re.findall(r'^certify_ahead_samples_total\{fate="(\w+)"\} (\S+)$', metrics, re.MULTILINE)
    return {fate: float(value) for fate, value in found}


@contextmanager
def _bare(folder: Path, answer: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """(port, process) of the bare endpoint, listening."""
    path, [port] = folder / "answer.json", free_ports(1)
    path.write_text(json.dumps(answer), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.bare", str(port), str(path)])
    try:
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()
