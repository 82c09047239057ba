"""How far engines and dtypes vote alike: each against torch in float32, over the same noise, on a trained bundle.

    python -m benchmarks.agreement digits --images 200 --samples 1000
    python -m benchmarks.agreement fashion --images 40 --samples 256
    python -m benchmarks.agreement cifar10 --data DIR --images 50 --samples 256        # DIR has test.npz
    python -m benchmarks.agreement digits --images 150 --samples 128 --float32 2

The last is a check of an engine, over 115,200 draws: float32 alone, where at most 2 draws may get another class.

Share of the draws that get another class, change of the radius (policy `best`, the same pilot), ACR. A default engine
or a bundle's dtype may change only where the ACR changes by less than half a percent. Writes its part of
docs/performance.md.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from benchmarks.tables import PERFORMANCE, write
from certify.models.bundle import Manifest, find_bundle, load_manifest
from certify.models.datasets import DataSet, open_dataset
from certify.models.runtime import RuntimeOptions, limit_threads, load_pipeline, options_for, usable_cores
from certify.service.answering.images import decode_image
from certify.service.backends.base import cascade_of
from certify.service.core import plan_from_pilot
from certify.service.research.policies import best

__all__ = ("Variant", "check_text", "compare", "differing", "table")

PILOT = 128  # draws, as `certify dataset` takes: 100 in chunks of 32
ALPHA = 0.001


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What one way of running the networks said about every image."""

    name: str
    labels: NDArray[np.int64]  # (n, K, PILOT + N)
    radius: NDArray[np.float64]  # (n,), 0 where it abstains
    right: NDArray[np.bool_]  # (n,)
    seconds: float

    @property
    def acr(self) -> float:
        return float(np.mean(self.radius * self.right))


def compare(
    bundle: str | Path, dataset: DataSet, samples: int, options: Sequence[RuntimeOptions]
) -> tuple[int, list[Variant]]:
    """(images, a variant for each of `options`). samples: estimation draws at each scale."""
    folder = find_bundle(bundle)
    manifest = load_manifest(folder)
    images = [
        decode_image(dataset.read(i), manifest.input_shape, resize=False, max_pixels=2**20).tensor
        for i in range(len(dataset))
    ]
    truth = dataset.labels_in(manifest.classes)
    return len(images), [_variant(folder, manifest, images, truth, dataset.idx, samples, each) for each in options]


def _variant(
    folder: Path,
    manifest: Manifest,
    images: list[NDArray[np.float32]],
    truth: Sequence[int],
    idx: Sequence[int],
    samples: int,
    options: RuntimeOptions,
) -> Variant:
    pipeline, chunk = load_pipeline(folder, options), manifest.chunk
    count = PILOT + -(-samples // chunk) * chunk
    began = time.monotonic()

    def draw(work: tuple[int, int]) -> NDArray[np.int64]:
        image, level = work
        # Whoever is compared gets the same noise: a seed for each image and scale.
        seed = idx[image] * len(manifest.sigmas) + level
        return pipeline.labels(images[image], sigma=manifest.sigmas[level], seed=seed, first=0, count=count)

    pairs = list(itertools.product(range(len(images)), range(len(manifest.sigmas))))
    with ThreadPoolExecutor(usable_cores(), initializer=limit_threads) as pool:
        drawn = np.array(list(pool.map(draw, pairs))).reshape(len(images), len(manifest.sigmas), -1)
    seconds = time.monotonic() - began
    certified = [_certify(manifest, rows) for rows in drawn]
    return Variant(
        name=f"{pipeline.engine.name} {pipeline.engine.dtype}, {options.device}",
        labels=drawn,
        radius=np.array([radius for _, radius in certified]),
        right=np.array([label == true for (label, _), true in zip(certified, truth, strict=True)]),
        seconds=seconds,
    )


def _certify(manifest: Manifest, rows: NDArray[np.int64]) -> tuple[int, float]:
    """(label, radius) by policy `best`. rows: (K, PILOT + N)."""
    classes = len(manifest.classes)
    pilot, counts = (
        [np.bincount(row, minlength=classes).tolist() for row in part] for part in np.split(rows, [PILOT], axis=1)
    )
    cascade = cascade_of(manifest.sigmas, manifest.thresholds, manifest.final, manifest.noise)
    plan = plan_from_pilot(cascade, pilot, ALPHA, rows.shape[1] - PILOT)
    return plan.label, best(np.array(counts), plan.label, cascade, ALPHA, plan.weights).radius


def table(variants: Sequence[Variant]) -> str:
    """Each against the first, as Markdown."""
    first = variants[0]
    lines = [
        "| engine and dtype | other class | radius changes, mean | at most | ACR | ACR changes | seconds |",
        "| --- " * 7 + "|",
    ]
    for variant in variants:
        change = np.abs(variant.radius - first.radius)
        lines.append(
            f"| {variant.name} | {np.mean(variant.labels != first.labels):.4%} | {change.mean():.5f} | "
            f"{change.max():.5f} | {variant.acr:.4f} | {variant.acr / first.acr - 1:+.2%} | {variant.seconds:.0f} |"
        )
    return "\n".join(lines)


def differing(variants: Sequence[Variant]) -> int:
    """Draws, pilots' among them, that any variant gives another class than the first."""
    return int(np.sum(np.any([variant.labels != variants[0].labels for variant in variants], axis=0)))


def check_text(name: str, images: int, variants: Sequence[Variant]) -> str:
    """How many draws differ, as a sentence."""
    first, *others = (variant.name for variant in variants)
    return (
        f"{name}: {differing(variants)} of {variants[0].labels.size:,} draws (pilots' among them) get another class "
        f"from {' and '.join(others)} than from {first}; {images} test images, on {machine()['processor']}."
    )


def variants_here(dtypes: Sequence[str], device: str = "cpu") -> list[RuntimeOptions]:
    """torch in float32 first, then the engine that is fastest on the device, in each dtype."""
    # torch's bfloat16 on a CPU is slower than its float32 where the CPU has none, and nobody's default: left out.
    engine = "openvino" if device == "cpu" else "torch"
    reference = replace(options_for(device, "torch"), dtype="float32")
    others = [replace(options_for(device, engine), dtype=dtype) for dtype in dtypes]
    return [reference, *(options for options in others if options != reference)]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.agreement", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", help="a shipped bundle's name or a folder")
    parser.add_argument("--data", type=Path, help="folder with test.npz; without one, the test images that ship")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--samples", type=int, default=1000, help="at each scale, rounded up to chunks")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--float32", type=int, metavar="MOST", help="float32 alone; exit 1 if more draws differ")
    arguments = parser.parse_args()
    name = load_manifest(find_bundle(arguments.bundle)).name
    ships = "fashion" if name == "fashion" else "digits"
    dataset = open_dataset(ships if arguments.data is None else str(arguments.data / "test.npz"))
    dtypes = ("float32", "bfloat16") if arguments.float32 is None else ("float32",)
    options = variants_here(dtypes, arguments.device)
    images, variants = compare(arguments.bundle, dataset.part(limit=arguments.images), arguments.samples, options)
    head = (
        f"{name}: {images} test images, {variants[0].labels.shape[2] - PILOT} draws at each scale, on "
        f"{machine()['processor']}."
    )
    text = f"{head}\n\n{table(variants)}"
    print(text)
    if arguments.float32 is not None:
        differ, draws = differing(variants), variants[0].labels.size
        print(f"\n{differ} of {draws} draws differ, expected at most {arguments.float32}")
        write(f"agreement-float32-{name}", check_text(name, images, variants), PERFORMANCE)
        raise SystemExit(int(differ > arguments.float32))
    write(f"agreement-{name}", text, PERFORMANCE)


if __name__ == "__main__":
    main()
