"""`python -m benchmarks.hostile_soak`: honest clients and every attack in turn on one service; who grows, what breaks?

One attack after another for ten seconds each, again and again, beside two honest clients that never rest. After each
the service has a second's peace, and its resident memory, its children's included, its open files and the processes
under it are read. The median of the second round is held against that of the last: in the first, most attacks have yet
to leave their mark. No answer may be a 500.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time
from collections import Counter
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.attack import attacker, children, honest_once, resident
from benchmarks.attackers import ATTACKS
from benchmarks.machine import machine, sentence
from benchmarks.report import progress, table
from benchmarks.served import DIGITS, Service, service

_ATTACK_SECONDS, _PEACE_SECONDS = 10.0, 1.0
_HONEST_CLIENTS = 2
# Allocators keep what the worst body took; a leak adds to it round by round.
_MOST_GROWTH = 0.1

Reading = dict[str, float]  # what is watched -> how much


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile_soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="[30] one round of every attack takes about 4")
    parser.add_argument("--backend", choices=("embedded", "fake"), default="embedded", help="[embedded]")
    arguments = parser.parse_args()
    print(sentence(machine()) + "\n")
    with service("--backend", arguments.backend) as served:
        readings, honest = asyncio.run(soak(served, DIGITS[0].read_bytes(), arguments.minutes * 60))
        errors = error_counts(served)
    growth = report(readings)
    print("\nhonest requests: " + ", ".join(f"{count:,} x {code}" for code, count in honest.most_common()))
    print("refusals: " + ", ".join(f"{count:,} {code}" for code, count in errors.most_common()))
    if errors["internal_error"] or growth > _MOST_GROWTH:
        raise SystemExit(f"{errors['internal_error']} answers were a 500; memory grew by {growth:.0%}")


async def soak(served: Service, image: bytes, seconds: float) -> tuple[list[Reading], Counter[str]]:
    """One attack after another, to the end of the time; a reading after each, and the honest clients' codes."""
    honest: Counter[str] = Counter()
    clients = [asyncio.create_task(honest_client(served.url, image, honest)) for _ in range(_HONEST_CLIENTS)]
    readings: list[Reading] = []
    began = time.monotonic()
    for name in itertools.cycle(ATTACKS):
        with attacker(name, served, image, _ATTACK_SECONDS):
            await asyncio.sleep(_ATTACK_SECONDS)
        await asyncio.sleep(_PEACE_SECONDS)
        readings.append(read(served.pid))
        text = ", ".join(f"{what} {value:,.0f}" for what, value in readings[-1].items())
        progress(f"{(time.monotonic() - began) / 60:6.1f} min  after {name}: {text}; {sum(honest.values()):,} honest")
        if time.monotonic() - began >= seconds:
            break
    for task in clients:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    return readings, honest


async def honest_client(url: str, image: bytes, codes: Counter[str]) -> None:
    while True:
        await honest_once(url, image, codes)
        await asyncio.sleep(0.1)


def read(pid: int) -> Reading:
    files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return {"MiB": resident(pid), "open files": files, "processes": 1 + len(children(pid))}


def error_counts(served: Service) -> Counter[str]:
    """Of the service's own count of problems, those that came at all."""
    text = httpx.get(f"{served.url}/metrics", timeout=30).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return Counter({s.labels["code"]: int(s.value) for s in samples if s.name == "certify_errors_total" and s.value})


def report(readings: list[Reading]) -> float:
    """Print the table; the growth of memory as a share, 0 before there are three rounds."""
    whole = len(readings) >= 3 * len(ATTACKS)  # else other attacks are compared
    size = len(ATTACKS) if whole else max(1, len(readings) // 2)
    begin = len(ATTACKS) if whole else 0
    rows, growth = [], 0.0
    for what in readings[0]:
        first, last = (statistics.median(r[what] for r in part) for part in (readings[begin:][:size], readings[-size:]))
        most = max(reading[what] for reading in readings)
        rows.append([what, f"{first:,.0f}", f"{last:,.0f}", f"{most:,.0f}", f"{last / first - 1:+.1%}"])
        if what == "MiB" and whole:
            growth = last / first - 1
    print(table(["at rest, after an attack", "second round", "last", "most", "growth"], rows))
    return growth


if __name__ == "__main__":
    main()
