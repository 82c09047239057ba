"""What a CUDA device makes of a bundle, in under five minutes: `python -m benchmarks.gpu [--data DIR]`.

    peak      matrix products and convolutions alone, in float32 and bfloat16
    samples   a second for each micro-batch: float32 and bfloat16 as they are, then the engine that is served (bfloat16,
              channels_last, compiled, CUDA graphs); the share of the bfloat16 matrix peak
    kernels   where the device's time goes
    answers   10,000-sample answers a second and their 95th percentile for 1, 8 and 64 clients, embedded backend

`--device cpu --quick` tries the program where there is no GPU; its figures say nothing of one, and are not written.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import peak, stages
from benchmarks.answers import data_of
from benchmarks.clients import summary
from benchmarks.crowd import crowd
from benchmarks.machine import machine, sentence
from benchmarks.report import progress, save, table
from benchmarks.tables import PERFORMANCE, write
from benchmarks.votes import SEED
from certify.models.bundle import find_bundle, list_bundles, load_manifest
from certify.models.datasets import DataSet
from certify.models.engine_torch import TorchEngine
from certify.models.engines import Engine
from certify.models.networks import load_networks
from certify.models.runtime import RuntimeOptions, load_pipeline
from certify.service.answering.fields import parse_texts
from certify.service.backends.embedded import EmbeddedBackend
from certify.service.research.certifiers import LocalCertifier
from certify.service.settings import load_settings

CLIENTS = (1, 8, 64)
IMAGES = 64  # asked about in turn
# From the default outwards: what comes late is left out when time is short.
MICRO_BATCHES = (512, 1024, 256, 2048)
# Compiling takes up to a minute for each micro-batch. Until then new ones are begun; the rest takes two minutes.
COMPILE_UNTIL_SECONDS = 150.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds of one timing and of a spell of load."""

    micro_batches: tuple[int, ...] = MICRO_BATCHES
    clients: tuple[int, ...] = CLIENTS
    seconds: float = 2.0
    crowd: float = 10.0


QUICK = Pace(micro_batches=(32, 64), clients=(1, 2), seconds=0.2, crowd=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    bundle = "cifar10" if "cifar10" in list_bundles() else "digits"
    parser.add_argument("--bundle", default=bundle, help="a shipped bundle's name, or a folder (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="folder with test.npz, to answer about; digits need none")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="briefly: to see that it works")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--write", action="store_true", help="fill the tables of docs/performance.md")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            "--device: expected a CUDA device, and torch finds none here; --device cpu --quick tries the program"
        )
    if arguments.write and arguments.device == "cpu":
        parser.error("--write: expected --device cuda, since docs/performance.md takes no GPU's figures from a CPU")
    dataset = data_of(load_manifest(find_bundle(arguments.bundle)).name, arguments.data)
    if dataset is None:
        progress(f"no --data: nothing to answer about for {arguments.bundle}; answers are left out")
    figures = bench(arguments.bundle, arguments.device, dataset, QUICK if arguments.quick else Pace())
    shown = text(figures)
    print(shown)
    if arguments.json:
        save(figures, arguments.json)
    if arguments.write:
        write("gpu", shown, PERFORMANCE)


def bench(bundle: str, device: str, dataset: DataSet | None, pace: Pace) -> dict[str, Any]:
    """All figures, as JSON values."""
    began = time.monotonic()
    name = torch.cuda.get_device_name() if device == "cuda" else "no GPU: a CPU, to try the program"
    figures: dict[str, Any] = {"machine": {**machine(), "device": name}, "bundle": bundle}
    figures["mflop_per_sample"] = peak.mflop(bundle)
    figures["gflops"] = peak.peak(("float32", "bfloat16"), device=device, seconds=pace.seconds)
    figures["samples"] = samples(bundle, device, pace, until=began + COMPILE_UNTIL_SECONDS)
    served = load_pipeline(bundle, _served(device, pace.micro_batches[0]))
    figures["kernels"] = stages.operators(served, device=device)
    if dataset is not None:
        figures["answers"] = asyncio.run(_answers(bundle, device, dataset, pace))
    figures["seconds"] = time.monotonic() - began
    return figures


def samples(bundle: str, device: str, pace: Pace, *, until: float) -> dict[str, dict[str, float]]:
    """Samples a second by variant and micro-batch. until: on time.monotonic(), no new compilation begins later."""
    served = "bfloat16, channels_last, compiled" if device == "cuda" else "bfloat16, as served on a CPU"
    by_variant: dict[str, dict[str, float]] = {"float32": {}, "bfloat16": {}, served: {}}
    for variant, rates in by_variant.items():
        for micro_batch in pace.micro_batches:
            if variant == served and rates and time.monotonic() > until:
                progress(f"  {variant}, {micro_batch}: left out, for want of time")
                continue
            try:
                if variant == served:
                    engine = load_pipeline(bundle, _served(device, micro_batch)).engine
                else:
                    engine = _as_it_is(bundle, variant, device)
                rates[str(micro_batch)] = _rate(engine, bundle, micro_batch, device, pace.seconds)
            except torch.OutOfMemoryError:
                progress(f"  {variant}, {micro_batch}: does not fit the device's memory")
                continue
            progress(f"  {variant}, {micro_batch}: {rates[str(micro_batch)]:,.0f} samples a second")
    return by_variant


def _served(device: str, micro_batch: int) -> RuntimeOptions:
    """bfloat16 whatever the bundle says: the figure is the device's."""
    return RuntimeOptions(device=device, micro_batch=micro_batch, dtype="bfloat16")


def _as_it_is(bundle: str, dtype: str, device: str) -> Engine:
    """Neither compiled nor in another memory format."""
    folder = find_bundle(bundle)
    return TorchEngine(load_networks(folder, load_manifest(folder)), dtype=dtype, device=device)


def _rate(engine: Engine, bundle: str, micro_batch: int, device: str, seconds: float) -> float:
    """Of the network alone, on noise that lies on the device."""
    manifest = load_manifest(find_bundle(bundle))
    noisy = torch.randn(micro_batch, *manifest.input_shape, device=device)

    def run() -> float:
        peak.wait(device)
        began, batches = time.perf_counter(), 0
        while not batches or time.perf_counter() - began < seconds:
            for _ in range(8):  # waiting after each would leave the device idle meanwhile
                engine.logits(noisy, manifest.sigmas[0])
            peak.wait(device)
            batches += 8
        return batches * micro_batch / (time.perf_counter() - began)

    with torch.inference_mode():
        engine.logits(noisy, manifest.sigmas[0])  # compiles
        return run()


async def _answers(bundle: str, device: str, dataset: DataSet, pace: Pace) -> dict[str, Any]:
    """By number of clients. A micro-batch is the device's default, the dtype the bundle's: what is served."""
    settings = load_settings(backend="embedded", bundle=bundle, device=device)
    backend = EmbeddedBackend(bundle, device=device, engine="torch")
    await backend.open()
    try:
        certifier = LocalCertifier(backend, settings, parse_texts({}), policy="best", seed=SEED)
        images = [dataset.read(i) for i in range(min(IMAGES, len(dataset)))]
        used: list[int] = []

        async def ask(number: int) -> None:
            place = number % len(images)
            used.append((await certifier.certify(dataset.idx[place], dataset.labels[place], images[place])).samples)

        await ask(0)  # warms up
        by_clients: dict[str, Any] = {}
        for clients in pace.clients:
            by_clients[str(clients)] = summary(await crowd(ask, clients=clients, seconds=pace.crowd))
            progress(f"  {clients} clients: {by_clients[str(clients)]['answers_a_second']:.1f} answers a second")
        runtime = backend.info().runtime
        described = f"{runtime.engine}, {runtime.dtype}, micro-batch {backend.info().grain}, {backend.workers} workers"
        return {"clients": by_clients, "samples": sum(used) / len(used), "runtime": described}
    finally:
        await backend.close()


def text(figures: dict[str, Any]) -> str:
    best = figures["gflops"]["bfloat16"]["matmul"]
    cost = figures["mflop_per_sample"]
    rows = [
        [variant, size, f"{rate:,.0f}", f"{rate * cost / 1e6:,.1f}", f"{rate * cost / 1000 / best:.0%}"]
        for variant, rates in figures["samples"].items()
        for size, rate in sorted(rates.items(), key=lambda pair: int(pair[0]))
    ]
    kernels = ", ".join(f"{name[:60]} {share:.0%}" for name, share in figures["kernels"].items())
    head = ["variant", "micro-batch", "samples a second", "TFLOP/s", "of the bfloat16 matrix peak"]
    parts = [
        f"{figures['machine']['device']}; {sentence(figures['machine'])}",
        f"Bundle {figures['bundle']}, {cost:,.1f} MFLOP a sample. Peaks measured in the same run, TFLOP/s:",
        table(
            ["dtype", "matrix product", "convolution"],
            [[d, f"{p['matmul'] / 1e3:,.1f}", f"{p['convolution'] / 1e3:,.1f}"] for d, p in figures["gflops"].items()],
        ),
        table(head, rows),
        f"Where the time goes, in the served engine: {kernels}.",
    ]
    if answers := figures.get("answers"):
        rows = [
            [n, f"{f['answers_a_second']:.1f}", f"{f['p50']:.3f}", f"{f['p95']:.3f}"]
            for n, f in answers["clients"].items()
        ]
        parts.append(
            f"Answers with samples = 10,000 ({answers['samples']:,.0f} used), embedded backend ({answers['runtime']}):"
        )
        parts.append(table(["clients", "answers a second", "seconds, median", "95th percentile"], rows))
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
