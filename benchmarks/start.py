"""From a clone to a certificate: the small environment of `make demo`, and what a service takes in it.

Cloned from this repository's last commit into a folder of its own. Seconds hang on where packages come from; those of a
round after the first have them at hand, since pip keeps them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from benchmarks.machine import rss
from benchmarks.report import progress, spread, table
from benchmarks.served import DIGITS
from certify.models.triton.server import free_ports

__all__ = ("measure", "text")

ROOT = Path(__file__).parents[1]
_WAIT_SECONDS = 120.0


def measure(*, rounds: int) -> dict[str, Any]:
    """In rounds. Seconds, and bytes; "environment": of .venv-demo, "files": how many. Raises CalledProcessError."""
    figures: dict[str, list[float]] = {}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            for what, value in _once(Path(name) / "clone").items():
                figures.setdefault(what, []).append(value)
        progress(f"  start, round {number + 1}/{rounds}: {figures['demo'][-1]:.0f} s from the clone to the table")
    return figures


def _once(clone: Path) -> dict[str, float]:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    made = {"demo": _seconds(lambda: _run(clone, "make", "demo", f"PYTHON={sys.executable}"))}
    made["environment"] = float(_bytes(clone / ".venv-demo"))
    command = str(clone / ".venv-demo" / "bin" / "certify")
    picture = str(clone / DIGITS[3].relative_to(ROOT))
    made["image"] = _seconds(lambda: _run(clone, command, "image", picture, "--radius", "0.25"))
    return {**made, **_served(clone, command)}


def _served(clone: Path, command: str) -> dict[str, float]:
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    began = time.perf_counter()
    process = subprocess.Popen(
        [command, "serve", "--port", str(port)], cwd=clone, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _ready(url):
            if process.poll() is not None or time.perf_counter() - began > _WAIT_SECONDS:
                raise SystemExit(f"{command} serve: not ready within {_WAIT_SECONDS:g} s (code {process.returncode})")
            time.sleep(0.02)
        ready = time.perf_counter() - began
        for path in DIGITS:
            httpx.post(f"{url}/certify", files={"image": path.read_bytes()}, timeout=60).raise_for_status()
        return {"ready": ready, "resident": float(rss(process.pid))}
    finally:
        process.terminate()
        process.wait()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False  # not listening yet


def _run(clone: Path, *command: str) -> None:
    # Neither this process's own environment nor its packages.
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run(command, cwd=clone, check=True, env=inherited, stdout=subprocess.DEVNULL)


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _bytes(folder: Path) -> int:
    """On disk, in whole blocks; a file with two names counts once."""
    stats = {}
    for path in (folder, *folder.rglob("*")):
        stat = path.lstat()
        stats[stat.st_ino] = stat.st_blocks * 512
    return sum(stats.values())


def text(figures: dict[str, Any]) -> str:
    """In MB as disks are sold, memory in MiB."""
    rows = [
        ["`make demo` in a fresh clone, to its end", spread(figures["demo"], "{:.0f} s")],
        ["its environment on disk", spread([value / 1e6 for value in figures["environment"]], "{:.0f} MB")],
        ["`certify serve`, from its start to /readyz", spread(figures["ready"], "{:.1f} s")],
        ["its resident memory after ten answers", spread([v / 2**20 for v in figures["resident"]], "{:.0f} MiB")],
        ["`certify image --radius 0.25`, cold", spread(figures["image"], "{:.1f} s")],
    ]
    return table(["digits, with the extra `cpu` alone", ""], rows)
