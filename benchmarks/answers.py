"""Samples and seconds of an answer: policy `best` as served, against the paper's protocol on the reference loop.

    python -m benchmarks.answers digits                        all held-out images (a quarter of an hour on two cores)
    python -m benchmarks.answers cifar10 --data DIR --images 5           DIR has test.npz

`best` is timed. The reference's draws (N0 = 100 and N = 10,000 at each scale that it visits, p0 = 0.5, as published)
come from the same engine as ours, so that both certify the same images in reasonable time; its seconds are its draws
over the samples a second that the reference loop was measured at, in the same run, at its best batch.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import throughput
from benchmarks.machine import machine, sentence
from benchmarks.report import progress, table
from benchmarks.tables import PERFORMANCE, write
from benchmarks.votes import SEED
from certify.models.bundle import find_bundle, load_manifest
from certify.models.datasets import DataSet, open_dataset
from certify.service.answering.fields import parse_texts
from certify.service.backends.embedded import EmbeddedBackend
from certify.service.errors import RequestError
from certify.service.research.certifiers import LocalCertifier, Verdict
from certify.service.research.curves import INTERVALS, Curve, with_interval
from certify.service.research.policies import Policy
from certify.service.research.tables import ABSTAIN
from certify.service.settings import load_settings

__all__ = ("data_of", "measure", "text")

RADII = (0.0, 0.25, 0.5, 1.0)
REFERENCE = "reference"
# What is asked for, and the radius at which the answer is to be judged; None: at all of them.
ORDERS: dict[str, tuple[Policy, dict[str, str], float | None]] = {
    REFERENCE: ("reference", {"threshold": "0.5"}, None),
    "best, 10,000 samples": ("best", {}, None),
    "best, 3,000 samples": ("best", {"samples": "3000"}, None),
    "best, radius 0.25": ("best", {"radius": "0.25"}, 0.25),
    "best, radius 0.5": ("best", {"radius": "0.5"}, 0.5),
    # Enough for what the reference certifies at this radius; the last images that 10,000 would prove cost the most.
    "best, radius 0.5, of 3,000 samples": ("best", {"radius": "0.5", "samples": "3000"}, 0.5),
    "best, radius 1.0": ("best", {"radius": "1.0"}, 1.0),
}


def data_of(bundle: str, data: Path | None) -> DataSet | None:
    """Images that the bundle never saw; None where there are none."""
    if bundle in ("digits", "digits_plain"):
        return open_dataset("digits")
    return None if data is None else open_dataset(str(data / "test.npz"))


async def measure(
    bundle: str, backend: EmbeddedBackend, dataset: DataSet, *, reference_rate: float, seconds: float
) -> dict[str, Any]:
    """Policies take turns on each image, until `seconds` are over or all images done; at least two."""
    settings = load_settings(backend="embedded", bundle=bundle)
    labels = dataset.labels_in(backend.info().class_names)
    certifiers, unreachable = {}, {}
    for name, (policy, texts, _) in ORDERS.items():
        fields = parse_texts({key: [value] for key, value in texts.items()})
        try:
            certifiers[name] = LocalCertifier(backend, settings, fields, policy=policy, seed=SEED)
        except RequestError as error:  # a radius that these scales cannot certify at all
            unreachable[name] = error.detail
    verdicts: dict[str, list[Verdict]] = {name: [] for name in certifiers}
    took: dict[str, list[float]] = {name: [] for name in certifiers}
    began, done = time.perf_counter(), 0
    for position in range(len(dataset)):
        if done >= 2 and time.perf_counter() - began >= seconds:
            break
        for name, certifier in certifiers.items():
            start = time.perf_counter()
            verdicts[name].append(
                await certifier.certify(dataset.idx[position], labels[position], dataset.read(position))
            )
            took[name].append(time.perf_counter() - start)
        done += 1
        progress(f"  {bundle}: image {done}, {time.perf_counter() - began:.0f} s")
    asked = certifiers[REFERENCE].votes_facts()
    rows = {name: _figures(verdicts[name], labels[:done], took[name]) for name in certifiers}
    rows[REFERENCE]["seconds"] = rows[REFERENCE]["samples"] / reference_rate
    for row in rows.values():
        row["gain"] = rows[REFERENCE]["seconds"] / row["seconds"]
    return {
        "images": done,
        "alpha": asked["alpha"],
        "runtime": asked["runtime"],
        "reference_rate": reference_rate,
        "rows": rows,
        "unreachable": unreachable,
    }


def _figures(verdicts: list[Verdict], labels: tuple[int, ...], took: list[float]) -> dict[str, Any]:
    predicted = np.array([verdict.predict for verdict in verdicts])
    curve = Curve(
        name="",
        policy=None,
        sigma=None,
        final=None,
        correct=predicted == np.array(labels),
        abstained=predicted == ABSTAIN,
        radius=np.array([verdict.radius for verdict in verdicts]),
        samples=np.array([verdict.samples for verdict in verdicts]),
    )
    return {
        "samples": curve.mean_samples,
        "seconds": float(np.mean(took)),
        "accuracy": {f"{r:g}": curve.accuracy(r) for r in RADII},
        "accuracy_interval": {f"{r:g}": curve.accuracy_interval(r) for r in RADII},
        "acr": curve.acr,
        "acr_interval": curve.acr_interval,
    }


def text(bundle: str, figures: dict[str, Any]) -> str:
    cells = []
    for name, row in figures["rows"].items():
        until = ORDERS[name][2]  # an answer that stops at a radius says nothing of larger ones
        shares, ends = row["accuracy"], row["accuracy_interval"]
        accuracy = [
            with_interval(f"{shares[f'{r:g}']:.3f}", ends[f"{r:g}"], 3) if until is None or r <= until else ""
            for r in RADII
        ]
        acr = with_interval(f"{row['acr']:.4f}", row["acr_interval"], 4) if until is None else ""
        shown = f"{name}, its loop (counted)" if name == REFERENCE else name
        gain = "1" if name == REFERENCE else f"**{row['gain']:.1f}**"
        cells.append([shown, f"{row['samples']:,.0f}", f"{row['seconds']:.3f}", gain, *accuracy, acr])
    head = ["", "samples", "seconds", "times faster", *(f"accuracy at {r:g}" for r in RADII), "ACR"]
    lines = [
        f"{bundle}: means of an answer over n = {figures['images']} held-out images, alpha = {figures['alpha']:g}, in "
        f"{figures['runtime']}; the reference loop, torch in float32, draws {figures['reference_rate']:,.0f} samples a "
        "second. Certified accuracy.",
        table(head, cells),
        INTERVALS,
    ]
    lines += [f"{name}: left out ({why})." for name, why in figures["unreachable"].items()]
    return "\n\n".join(lines)


async def _alone(bundle: str, dataset: DataSet, rounds: int) -> str:
    backend = EmbeddedBackend(bundle)
    await backend.open()
    try:
        rates = await throughput.compare(bundle, backend, rounds=rounds, seconds=1.0)
        rate = rates["reference_rate"]
        figures = await measure(bundle, backend, dataset, reference_rate=rate, seconds=math.inf)
        return text(backend.info().bundle_name, figures)
    finally:
        await backend.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.answers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", help="a shipped bundle's name, or a folder")
    parser.add_argument("--data", type=Path, help="folder with test.npz; digits need none")
    parser.add_argument("--images", type=int, help="the first so many (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="in which the reference loop is timed (default 5)")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md too")
    arguments = parser.parse_args()
    name = load_manifest(find_bundle(arguments.bundle)).name
    dataset = data_of(name, arguments.data)
    if dataset is None:
        parser.error(f"--data: expected a folder with test.npz for {name}")
    described = machine()
    tables = asyncio.run(_alone(arguments.bundle, dataset.part(limit=arguments.images), arguments.rounds))
    whole = f"{sentence(described)}\n\n{tables}"
    print(whole)
    if arguments.write:
        write(f"answers-{name}", whole, PERFORMANCE)


if __name__ == "__main__":
    main()
