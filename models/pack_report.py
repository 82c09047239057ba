"""What `certify bundles pack` says at its end: what it understood of each file, and what the bundle will cost."""

from __future__ import annotations

import json
import math
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .bundle import load_manifest
from .classifiers import Taken
from .graph import read_graph, whole_of
from .runtime import limit_threads, load_pipeline, options_for, usable_cores
from .schedule import Schedule

__all__ = ("Cost", "cost_of", "understood")

SHOWN = 5  # classes
SECONDS = 1.5  # many micro-batches of a small network
LONG_GFLOP = 50.0  # a second or so of a core


def understood(folder: Path, taken: Taken, classes: Sequence[str], told_classes: bool) -> Iterator[str]:
    """Of the bundle being made in `folder`: one line for each thing. told_classes: whether the user named them."""
    if (config := folder / "denoiser" / "config.json").exists():
        settings = json.loads(config.read_text(encoding="utf-8"))
        scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
        schedule = Schedule.from_folder(folder / "scheduler")
        size = settings["sample_size"]
        sides = "x".join(map(str, size if isinstance(size, list) else [size, size]))
        weights = folder / "denoiser" / "diffusion_pytorch_model.safetensors"
        yield (
            f"denoiser    {settings['_class_name']}, {_many(parameters(weights))}, pictures "
            f"{settings['in_channels']}x{sides}, predicts {schedule.prediction_type}"
        )
        low, high = schedule.sigma_range
        yield (
            f"schedule    {scheduler.get('_class_name')}, {scheduler.get('num_train_timesteps')} steps, "
            f"{scheduler.get('beta_schedule')}: sigma {low:.3g} to {high:.3g}"
        )
    weights = folder / "classifier" / "model.safetensors"
    count = parameters(weights) if weights.exists() else taken.parameters
    yield f"classifier  {taken.architecture} ({taken.library}), {_many(count)}"
    yield f"            takes {taken.preprocessing} ({taken.preprocessing_from})"
    for note in taken.notes:
        yield f"            {note}"
    named = ", ".join(classes[:SHOWN]) + (", ..." if len(classes) > SHOWN else "")
    whose = "--classes" if told_classes else taken.labels_from if taken.labels else "numbered; --classes names them"
    yield f"            {len(classes)} classes: {named} ({whose})"


def parameters(path: Path) -> int:
    """Numbers in a safetensors file, by its header."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _many(count: int) -> str:
    return f"{count / 1e6:,.1f} million parameters" if count >= 1e6 else f"{count:,} parameters"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a bundle on this machine, measured briefly, beside whatever else runs on it."""

    draws_per_second: float
    engine: str
    gflop: float  # of convolutions and matrix products, in one draw
    mebibytes: float | None  # that loading and running it added to this process; None where that cannot be seen

    def __str__(self) -> str:
        memory = "" if self.mebibytes is None else f", {self.mebibytes:.0f} MiB of memory"
        pace = f"{self.draws_per_second:,.0f}" if self.draws_per_second >= 10 else f"{self.draws_per_second:.2g}"
        return f"{pace} draws a second on this machine ({self.engine}), {self.gflop:.3g} GFLOP a draw{memory}"


def cost_of(folder: Path, seconds: float = SECONDS) -> Cost:
    """Run the bundle for about so long, or for one micro-batch of each caller."""
    gflop = _flop(whole_of(read_graph(folder, load_manifest(folder)), 1)) / 1e9
    before = _resident()
    options = options_for(bundle=folder)
    pipeline = load_pipeline(folder, options)
    manifest, sigma = pipeline.manifest, pipeline.manifest.sigmas[-1]
    image = np.full(manifest.input_shape, 0.5, np.float32)
    # As many as a service has; where a micro-batch takes seconds, those who only make noise are left out.
    callers = usable_cores() if gflop * pipeline.micro_batch > LONG_GFLOP else options.callers

    def run(first: int) -> int:
        limit_threads(options.engine)
        done, begun = 0, time.perf_counter()
        while not done or time.perf_counter() - begun < seconds:
            pipeline.votes(image, sigma=sigma, seed=first, first=done, count=pipeline.micro_batch)
            done += pipeline.micro_batch
        return done

    begun = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        draws = sum(pool.map(run, range(callers)))
    pace = draws / (time.perf_counter() - begun)
    after = _resident()
    return Cost(
        draws_per_second=pace,
        engine=options.engine,
        gflop=gflop,
        mebibytes=None if before is None or after is None else max(0.0, after - before),
    )


def _flop(model: Any) -> float:
    """Of a model of fixed shapes; a multiplication and an addition are two."""
    total = 0.0
    for node in model.get_ops():
        kind = node.get_type_name()
        if kind not in ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"):
            continue
        first, second = (list(node.input(at).get_partial_shape().to_shape()) for at in (0, 1))
        out = math.prod(node.output(0).get_partial_shape().to_shape())
        match kind:
            case "Convolution":
                total += 2.0 * out * math.prod(second[1:])
            case "GroupConvolution":
                total += 2.0 * out * math.prod(second[2:])
            case "ConvolutionBackpropData":
                total += 2.0 * math.prod(first) * math.prod(second[1:])
            case _:
                total += 2.0 * out * first[-2 if node.get_attributes().get("transpose_a") else -1]
    return total


def _resident() -> float | None:
    """MiB of this process in memory, on Linux."""
    if sys.platform != "linux":
        return None
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    import resource

    return pages * resource.getpagesize() / 2**20
