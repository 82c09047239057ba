"""`make bench`: what this machine makes of the shipped bundles, side by side in one run, as ratios.

    throughput   samples a second of the default engine against the reference loop at its best batch and threads
    peak         the share of the machine's own matrix and convolution peaks, measured in the same run
    overhead     what a 10,000-sample request over HTTP costs beside its bare draws; the state machine alone
    gateway      the gateway's processor time over a bare FastAPI endpoint's
    shares       of the bare rate, what 1, 8 and 32 clients get; how long a client alone waits; what was drawn ahead
    answers      samples and seconds of an answer by `best`, against the paper's protocol on the reference loop
    clients      answers a second, median and 95th percentile for 1, 8 and 32 clients, embedded and Triton; memory
    stages       where the time of a sample goes
    start        size of the small environment; seconds from a clone to certificates; ready seconds, resident memory

What is compared is alternated in rounds, A B B A, and medians of the rounds' ratios are quoted: a machine that slows
down in between slows both sides. Under ten minutes on two cores; the tables go to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import answers, chart, clients, gateway, overhead, peak, stages, start, throughput
from benchmarks.machine import machine, sentence
from benchmarks.report import progress, save
from benchmarks.served import DIGITS, service
from benchmarks.tables import PERFORMANCE, write
from certify.models.bundle import find_bundle, load_manifest
from certify.service.backends.embedded import EmbeddedBackend

PARTS = ("throughput", "peak", "overhead", "gateway", "shares", "answers", "clients", "stages", "start")
BUNDLE = "digits"  # served over HTTP: its images come with scikit-learn
SHOWN = PERFORMANCE.parent / "performance"  # what docs/performance.md shows beside its tables


@dataclass(frozen=True, kw_only=True)
class Pace:
    """rounds of each comparison. Seconds: of one timing, of answers for each bundle, of a spell of load."""

    rounds: int = 8
    seconds: float = 1.0
    answers: float = 45.0
    crowd: float = 5.0

    @property
    def crowds(self) -> int:
        """Rounds of load: six spells each, so a quarter of them."""
        return max(1, self.rounds // 4)


# Everything once and briefly: to see that it works.
QUICK = Pace(rounds=1, seconds=0.1, answers=1.0, crowd=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them, with commas between (default: all)")
    parser.add_argument("--bundles", default="cifar10,digits", help="names or folders (default: %(default)s)")
    parser.add_argument("--rounds", type=int, help=f"alternations of each comparison (default {Pace.rounds})")
    parser.add_argument("--quick", action="store_true", help="one short round: to see that it works")
    parser.add_argument("--data", type=Path, help="folder with cifar10's test.npz: its answers are measured too")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--chart", type=Path, help="draw them here: .png and .svg")
    parser.add_argument(
        "--write", action="store_true", help="fill the tables of docs/performance.md; JSON and chart beside it"
    )
    arguments = parser.parse_args()
    pace = QUICK if arguments.quick else Pace()
    if arguments.rounds is not None:
        if arguments.rounds < 1:
            parser.error(f"--rounds: expected at least 1, got {arguments.rounds}")
        pace = Pace(rounds=arguments.rounds, seconds=pace.seconds, answers=pace.answers, crowd=pace.crowd)
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts: expected some of {','.join(PARTS)}, got {', '.join(sorted(unknown))}")
    figures: dict[str, Any] = {"machine": machine()}
    texts: dict[str, str] = {}
    try:
        asyncio.run(bench(pace, parts, arguments.bundles.split(","), arguments.data, figures, texts))
    finally:  # a part that fails takes nothing from those before it
        if texts:
            keep(figures, texts, json=arguments.json, picture=arguments.chart, shown=arguments.write)


def keep(
    figures: dict[str, Any], texts: dict[str, str], *, json: Path | None, picture: Path | None, shown: bool
) -> None:
    """Files where they were asked for, and for docs/performance.md if it is to be shown there."""
    for path in (json, SHOWN / "bench.json" if shown else None):
        if path:
            save(figures, path)
    if picture:
        chart.draw(figures, picture)
    if not shown:
        return
    if drawn := chart.draw(figures, SHOWN / "bench.png"):
        write("chart", f"![the figures above](performance/{drawn[-1].name})", PERFORMANCE)
    for name, text in texts.items():
        write(name, f"{sentence(figures['machine'])}\n\n{text}", PERFORMANCE)
    progress(f"wrote {PERFORMANCE}")


async def bench(
    pace: Pace,
    parts: Sequence[str],
    bundles: Sequence[str],
    data: Path | None,
    figures: dict[str, Any],
    texts: dict[str, str],
) -> None:
    """Measure and print; figures (JSON values) and the Markdown of each part are added as they come."""
    began = time.monotonic()
    print(sentence(figures["machine"]))

    def done(part: str, text: str) -> None:
        texts[part] = text
        print(f"\n## {part}\n\n{text}", flush=True)
        progress(f"-- {part}: done after {time.monotonic() - began:.0f} s")

    if {"throughput", "peak", "answers"} & set(parts):  # the others are held against its figures
        await _bundles(pace, parts, bundles, data, figures, done)
    if "overhead" in parts:
        figures["overhead"] = await _overhead(pace)
        done("overhead", overhead.text(figures["overhead"], figures["overhead"]["state_machine_seconds"]))
    if "gateway" in parts:
        figures["gateway"] = gateway.cost(rounds=pace.rounds, seconds=pace.seconds)
        done("gateway", gateway.cost_text(figures["gateway"]))
    if "shares" in parts:
        figures["shares"] = await gateway.shares(rounds=pace.crowds, seconds=pace.crowd)
        done("shares", gateway.shares_text(figures["shares"]))
    if "clients" in parts:
        figures["clients"] = clients.measure(rounds=pace.crowds, seconds=pace.crowd)
        done("clients", f"{clients.text(figures['clients'])}\n\n{clients.memory_text(figures['clients'])}")
    if "stages" in parts:
        figures["stages"] = {_name(bundle): stages.measure(bundle, seconds=pace.seconds) for bundle in bundles}
        done("stages", stages.text(figures["stages"]))
    if "start" in parts:
        figures["start"] = start.measure(rounds=pace.crowds)
        done("start", start.text(figures["start"]))
    figures["seconds"] = time.monotonic() - began


async def _bundles(
    pace: Pace,
    parts: Sequence[str],
    bundles: Sequence[str],
    data: Path | None,
    figures: dict[str, Any],
    done: Callable[[str, str], None],
) -> None:
    """throughput, answers and peak, which need each bundle's backend or its figures."""
    rates: dict[str, Any] = {}
    answered: dict[str, Any] = {}
    threads = 1
    for bundle in bundles:
        name, backend = _name(bundle), EmbeddedBackend(bundle)
        await backend.open()
        try:
            threads = backend.workers
            rates[name] = await throughput.compare(bundle, backend, rounds=pace.rounds, seconds=pace.seconds)
            if "answers" in parts and (dataset := answers.data_of(name, data)) is not None:
                rate = rates[name]["reference_rate"]
                answered[name] = await answers.measure(
                    bundle, backend, dataset, reference_rate=rate, seconds=pace.answers
                )  # fmt: skip
        finally:
            await backend.close()
    figures["throughput"] = rates
    done("throughput", throughput.text(rates))
    if answered:
        figures["answers"] = answered
        done("answers", "\n\n".join(answers.text(name, figures_of) for name, figures_of in answered.items()))
    if "peak" in parts:
        costs = {_name(bundle): peak.mflop(bundle) for bundle in bundles}
        peaks = peak.peak(("float32", "bfloat16"), threads=threads, seconds=pace.seconds)
        rows = []
        for name, row in rates.items():
            rows.append((f"{name}, {row['engine']}", row["dtype"], costs[name], row["rate"]))
            rows.append((f"{name}, reference loop", "float32", costs[name], row["reference_rate"]))
        figures["peak"] = {"gflops": peaks, "mflop_per_sample": costs}
        done("peak", peak.share_text(rows, peaks))


def _name(bundle: str) -> str:
    return load_manifest(find_bundle(bundle)).name


async def _overhead(pace: Pace) -> dict[str, Any]:
    backend = EmbeddedBackend(BUNDLE)
    await backend.open()
    try:
        with service() as served:
            measured = await overhead.compare_http(backend, served.url, DIGITS, pace.rounds)
    finally:
        await backend.close()
    return {**measured, "state_machine_seconds": overhead.time_state_machine()}


if __name__ == "__main__":
    main()
