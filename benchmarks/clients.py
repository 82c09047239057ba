"""Answers a second and how long they take, for 1, 8 and 32 clients that never rest: embedded, and through Triton.

Both services stand beside each other and take turns; the one that waits costs nothing. Clients, gateways and Triton
share this machine. The clients are benchmarks/load.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load import load
from benchmarks.machine import rss
from benchmarks.report import progress, spread, table
from benchmarks.served import DIGITS, service
from benchmarks.triton import triton_and_gateway
from certify.models.triton.download import TritonUnavailable

__all__ = ("CLIENTS", "memory_text", "measure", "summary", "text")

CLIENTS = (1, 8, 32)
RADIUS = 0.25  # a request that users make: stop as soon as it is known


def measure(*, rounds: int, seconds: float, clients: Sequence[int] = CLIENTS) -> dict[str, Any]:
    """By backend and number of clients. seconds: of each spell. Triton is left out, with the reason, if it cannot run.

    "memory": bytes of resident memory of each process after all of that.
    """
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        embedded = stack.enter_context(service())
        urls, skipped = {"embedded": embedded.url}, None
        sizes: dict[str, Callable[[], int]] = {"embedded service": lambda: rss(embedded.pid)}
        try:
            server, gateway = stack.enter_context(_triton(folder))
            urls["triton"] = gateway.url
            sizes["gateway before Triton"] = lambda: rss(gateway.pid)
            sizes["tritonserver"] = lambda: rss(server.pid)
            sizes["its stubs, together"] = lambda: sum(map(rss, server.stub_pids()))
        except TritonUnavailable as error:
            skipped = str(error)
            progress(f"  Triton is left out: {skipped}")
        by_backend: dict[str, dict[str, dict[str, list[float]]]] = {backend: {} for backend in urls}
        for number in range(rounds):
            for count in clients:
                for backend, url in urls.items() if number % 2 == 0 else reversed(urls.items()):
                    if not number:
                        _spell(url, count, min(1.0, seconds))  # warms up
                    figures = _spell(url, count, seconds)
                    for key, value in figures.items():
                        by_backend[backend].setdefault(str(count), {}).setdefault(key, []).append(value)
                    progress(
                        f"  {backend}, {count} clients, round {number + 1}/{rounds}: {figures['answers_a_second']:.1f} "
                        f"answers a second, p95 {figures['p95']:.2f} s"
                    )
        memory = {what: size() for what, size in sizes.items()}
    return {"radius": RADIUS, "backends": by_backend, "skipped": skipped, "memory": memory}


def summary(seconds: Sequence[float], rate: float) -> dict[str, float]:
    """seconds: what each answer took. rate: answers a second."""
    return {"answers_a_second": rate, "p50": float(np.median(seconds)), "p95": float(np.quantile(seconds, 0.95))}


def text(figures: dict[str, Any]) -> str:
    rows = [
        [count, backend, spread(f["answers_a_second"], "{:.1f}"), spread(f["p50"]), spread(f["p95"])]
        for backend, by_count in figures["backends"].items()
        for count, f in by_count.items()
    ]
    rows.sort(key=lambda row: int(row[0]))
    parts = [table(["clients", "backend", "answers a second", "seconds, median", "95th percentile"], rows)]
    if figures["skipped"]:
        parts.append(f"Triton was left out: {figures['skipped']}.")
    return "\n\n".join([f"Held-out digits, radius {figures['radius']}, over HTTP.", *parts])


def memory_text(figures: dict[str, Any]) -> str:
    rows = [[what, f"{size / 2**20:,.0f}"] for what, size in figures["memory"].items()]
    return table(["process, after that load", "resident MiB"], rows)


def _spell(url: str, clients: int, seconds: float) -> dict[str, float]:
    port = int(url.rsplit(":", 1)[1])
    spell = load(port, DIGITS[0].parent, {"radius": RADIUS}, clients=clients, seconds=seconds)
    return summary(spell.seconds, len(spell.seconds) / spell.elapsed)


@contextmanager
def _triton(folder: Path) -> Iterator[Any]:
    with triton_and_gateway(folder) as both:
        yield both
