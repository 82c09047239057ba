"""A running service under attack: does it still answer others, and what does it cost?

    python -m benchmarks.attack [--only NAME] [--seconds 10] [--backend fake]

For each attack a process of its own keeps it up while this one measures: how long /livez takes, the resident memory of
the service and its children above what they had when idle, what its log grows by, and one honest request a second with
deadline_ms=2000. Then the other client's time beside 80 large requests, without keys and with two, and SIGTERM in the
middle of an attack. Everything stays on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from benchmarks.attackers import ATTACKS, attack
from benchmarks.machine import machine, rss, sentence
from benchmarks.report import progress, table
from benchmarks.served import DIGITS, Service, service

# What others must not notice more than: half a second of a probe, 300 MiB, three times the usual wait.
MOST_LIVEZ_SECONDS, MOST_MIB, MOST_RATIO = 0.5, 300.0, 3.0
# Importing and building the bodies takes seconds; then a second until an attack is felt.
_BUILT_SECONDS, _UNDER_WAY_SECONDS = 60.0, 1.0
_DEADLINE_MS = 2000
_LARGE = "80 requests of 100,000 samples"


@dataclass
class Seen:
    """What came of one attack. Times in seconds, memory in MiB above idle, log in KiB a second."""

    livez: list[float] = field(default_factory=list)
    mib: float = 0.0
    log: float = 0.0
    honest: Counter[str] = field(default_factory=Counter)

    @property
    def kept(self) -> bool:
        """Whether everything that is promised was kept."""
        livez = bool(self.livez) and float(np.quantile(self.livez, 0.99)) < MOST_LIVEZ_SECONDS
        return livez and self.mib < MOST_MIB and set(self.honest) == {"200"}

    def row(self, name: str) -> list[str]:
        p50, p99 = np.quantile(self.livez, (0.5, 0.99)) if self.livez else (np.inf, np.inf)
        honest = ", ".join(f"{count} x {code}" for code, count in self.honest.most_common())
        kept = "yes" if self.kept else "NO"
        return [name, f"{p50 * 1e3:.0f}", f"{p99 * 1e3:.0f}", f"{self.mib:.0f}", f"{self.log:.1f}", honest, kept]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME", help="attacks whose name has this in it")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each attack [10]")
    parser.add_argument("--backend", choices=("embedded", "fake"), default="embedded", help="[embedded]")
    arguments = parser.parse_args()
    names = [name for name in ATTACKS if (arguments.only or "").lower() in name.lower()]
    if not names:
        parser.error(f"--only: expected part of one of {', '.join(ATTACKS)}")
    print(sentence(machine()) + "\n")
    options = ("--backend", arguments.backend)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = DIGITS[0].read_bytes()
        kept = under_attack(names, options, image, arguments.seconds)
        if _LARGE in names:
            kept &= beside_others(options, image, arguments.seconds, folder)
        sigterm(names[-1], options, image)
    if not kept:
        raise SystemExit("something that is promised was not kept")


def under_attack(names: list[str], options: tuple[str, ...], image: bytes, seconds: float) -> bool:
    """Print the table; whether every row keeps what is promised."""
    rows, kept = [], True
    with service(*options) as served:
        asyncio.run(honest_once(served.url, image, Counter()))  # it has sampled once: idle, not cold
        idle = resident(served.pid)
        for name in names:
            with attacker(name, served, image, seconds):
                seen = asyncio.run(watch(served, image, idle, seconds))
            kept &= seen.kept
            rows.append(seen.row(name))
            progress("  " + ", ".join(rows[-1]))
    head = ["attack", "/livez p50 ms", "p99 ms", "MiB above idle", "log KiB/s", "honest requests", "kept"]
    print(table(head, rows))
    return kept


async def watch(served: Service, image: bytes, idle: float, seconds: float) -> Seen:
    """Measure the service for so long, while something else attacks it."""
    seen, end = Seen(), time.monotonic() + seconds
    log = log_bytes(served.pid)

    async def probe() -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            while time.monotonic() < end:
                began = time.monotonic()
                await client.get(f"{served.url}/livez")
                seen.livez.append(time.monotonic() - began)
                seen.mib = max(seen.mib, resident(served.pid) - idle)
                await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        group.create_task(probe())
        while time.monotonic() < end:
            group.create_task(honest_once(served.url, image, seen.honest))
            await asyncio.sleep(1.0)
    seen.log = (log_bytes(served.pid) - log) / 1024 / seconds
    return seen


async def honest_once(url: str, image: bytes, codes: Counter[str], key: str = "") -> float:
    """Ask as an honest client does, count the status, return the seconds that it took."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    began = time.monotonic()
    try:
        # verify: else each reads this machine's certificates first, which takes as long as a small answer.
        async with httpx.AsyncClient(timeout=30, headers=headers, verify=False) as client:
            data = {"radius": 0.25, "deadline_ms": _DEADLINE_MS}
            reply = await client.post(f"{url}/certify", files={"image": image}, data=data)
        codes[str(reply.status_code)] += 1
    except httpx.TransportError as error:
        codes[type(error).__name__] += 1
    return time.monotonic() - began


def beside_others(options: tuple[str, ...], image: bytes, seconds: float, folder: Path) -> bool:
    """The 95th percentile of small requests alone and beside 80 large ones, of nobody's name and of two clients."""
    lines = [
        f"{name} {hashlib.sha256(name.encode()).hexdigest()} {10**12} {places}"
        for name, places in (("heavy", 100), ("light", 8))
    ]
    (folder / "keys").write_text("\n".join(lines))
    rows, kept = [], True
    for what, more, heavy, light in (
        ("without keys", (), "", ""),
        ("two clients with keys", ("--api-keys-file", str(folder / "keys")), "heavy", "light"),
    ):
        with service(*options, *more) as served:
            alone, _ = asyncio.run(small_requests(served.url, image, light, seconds))
            with attacker(_LARGE, served, image, seconds, heavy):
                beside, codes = asyncio.run(small_requests(served.url, image, light, seconds))
        ratio = beside / alone
        kept &= ratio <= MOST_RATIO and set(codes) == {"200"}
        answers = ", ".join(f"{count} x {code}" for code, count in codes.most_common())
        rows.append([what, f"{alone:.3f}", f"{beside:.3f}", f"{ratio:.1f}", answers])
        progress("  " + ", ".join(rows[-1]))
    print("\n" + table(["small requests beside 80 large", "p95 alone, s", "beside, s", "ratio", "answers"], rows))
    return kept


async def small_requests(url: str, image: bytes, key: str, seconds: float) -> tuple[float, Counter[str]]:
    """The 95th percentile of what one client's requests take, one after another; and their codes."""
    codes: Counter[str] = Counter()
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        took.append(await honest_once(url, image, codes, key))
    return float(np.quantile(took, 0.95)), codes


def sigterm(name: str, options: tuple[str, ...], image: bytes) -> None:
    """Print how long the process lives after SIGTERM, under attack, with a grace of two seconds."""
    with service(*options, "--grace-seconds", "2") as served, attacker(name, served, image, 10.0):
        began = time.monotonic()
        os.kill(served.pid, signal.SIGTERM)
        while Path(f"/proc/{served.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.02)
        took = time.monotonic() - began
    print(f"\nSIGTERM during `{name}`, with a grace of 2 s: the process ended after {took:.1f} s.")


@contextmanager
def attacker(name: str, served: Service, image: bytes, seconds: float, key: str = "") -> Iterator[None]:
    """Keep the attack up from another process for the length of the block."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    arguments = (name, int(served.url.rpartition(":")[2]), image, key, seconds + 30, ready)
    process = context.Process(target=attack, args=arguments, daemon=True)
    process.start()
    try:
        if not ready.wait(_BUILT_SECONDS):
            raise SystemExit(f"{name}: the attacker did not begin within {_BUILT_SECONDS:g} s")
        time.sleep(_UNDER_WAY_SECONDS)
        yield
    finally:
        process.kill()
        process.join()


def resident(pid: int) -> float:
    """MiB of a process and its children."""
    total = 0
    for each in (pid, *children(pid)):
        try:
            total += rss(each)
        except (FileNotFoundError, ProcessLookupError, IndexError):
            continue  # a decoder that has just ended
    return total / 2**20


def children(pid: int) -> list[int]:
    return [int(text) for path in Path(f"/proc/{pid}/task").glob("*/children") for text in path.read_text().split()]


def log_bytes(pid: int) -> int:
    """So much the service has written to its standard error, a file."""
    return Path(f"/proc/{pid}/fd/2").stat().st_size


if __name__ == "__main__":
    main()
