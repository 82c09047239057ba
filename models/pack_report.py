"""What `certify bundles pack` says at its end: what it understood of each file, and what the bundle will cost."""

from __future__ import annotations

import json
import math
import struct
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .bundle import load_manifest
from .denoiser import WEIGHTS
from .pack_classifiers import Understood
from .pack_sources import image_shape
from .runtime import limit_threads, load_pipeline, options_for, usable_cores
from .schedule import Schedule

__all__ = ("Pace", "cost_of", "lines_of", "pace_of")

SHOWN = 5  # classes
SECONDS = 1.5  # many micro-batches of a small network
LONG_GFLOP = 50.0  # a second or so of a core


def lines_of(folder: Path, found: Understood, told_classes: bool) -> Iterator[str]:
    """Of the bundle being made in `folder`: one line for each thing.

    told_classes: whether the user named them.
    """
    if (config := folder / "denoiser" / "config.json").exists():
        settings = json.loads(config.read_text(encoding="utf-8"))
        scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
        schedule = Schedule.from_folder(folder / "scheduler")
        weights = folder / "denoiser" / WEIGHTS
        yield (
            f"denoiser    {settings['_class_name']}, {_many(parameters(weights))}, pictures "
            f"{'x'.join(map(str, image_shape(settings, config)))}, predicts {schedule.prediction_type}"
        )
        low, high = schedule.sigma_range
        yield (
            f"schedule    {scheduler.get('_class_name')}, {scheduler.get('num_train_timesteps')} steps, "
            f"{scheduler.get('beta_schedule')}: sigma {low:.3g} to {high:.3g}"
        )
    for name, one in found.taken.items():
        weights = folder / name / "model.safetensors"
        count = parameters(weights) if weights.exists() else one.parameters
        sigma = f"at {name.rpartition('/')[2]}: " if len(found.taken) > 1 else ""
        yield f"classifier  {sigma}{one.architecture} ({one.library}), {_many(count)}"
        yield f"            takes {one.preprocessing} ({one.preprocessing_from})"
        for note in one.notes:
            yield f"            {note}"
    if found.remote:
        takes = found.remote["input"]
        size = "x".join(map(str, (takes["channels"], *takes["size"])))
        yield f"classifier  over the network, {found.remote['url']}"
        yield f"            takes {size}, {takes['dtype']} {takes['layout']}; gives {found.remote['output']['kind']}"
    first, classes = next(iter(found.taken.values()), None), found.classes
    named = ", ".join(classes[:SHOWN]) + (", ..." if len(classes) > SHOWN else "")
    labels_from = first.labels_from if first is not None and first.labels else "numbered; --classes names them"
    whose = "--classes" if told_classes else labels_from
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
class Pace:
    """Of a bundle on this machine, measured briefly, beside whatever else runs on it."""

    draws_per_second: float
    engine: str
    gflop: float  # in one draw, and of memory, in MB (models.cost)
    megabytes: float
    together: int  # draws in a micro-batch
    mebibytes: float | None  # that loading and running it added to this process; None where that cannot be seen

    def __str__(self) -> str:
        memory = "" if self.mebibytes is None else f"; {self.mebibytes:.0f} MiB of memory in all"
        pace = f"{self.draws_per_second:,.0f}" if self.draws_per_second >= 10 else f"{self.draws_per_second:.2g}"
        return (
            f"{pace} draws a second on this machine ({self.engine}), {self.gflop:.3g} GFLOP and {self.megabytes:.3g} "
            f"MB a draw, {self.together} together{memory}"
        )


def cost_of(folder: Path) -> str:
    """What a draw costs. A classifier over the network is not asked for it: each picture may be paid."""
    manifest = load_manifest(folder)
    if not manifest.remote:
        return str(pace_of(folder))
    gflop, megabytes = manifest.figures["mflop_per_sample"] / 1e3, manifest.figures["megabytes_per_sample"]
    return f"{gflop:.3g} GFLOP and {megabytes:.3g} MB a draw here, and a picture asked at {manifest.remote['url']}"


def pace_of(folder: Path, seconds: float = SECONDS) -> Pace:
    """Run the bundle for about so long, or for one micro-batch of each caller, at its coarsest scale."""
    before = _resident()
    options = options_for(bundle=folder)
    pipeline = load_pipeline(folder, options)
    manifest, sigma = pipeline.manifest, pipeline.manifest.sigmas[-1]
    gflop = manifest.figures["mflop_per_sample"] / 1e3
    image = np.zeros(manifest.input_shape, np.float32)
    whole = pipeline.whole(sigma)
    most = min(pipeline.micro_batch, whole or pipeline.micro_batch)
    # As many as a service has; where a micro-batch takes seconds, those who only make noise are left out.
    callers = usable_cores() if gflop * pipeline.micro_batch > LONG_GFLOP else options.callers

    def run(first: int) -> int:
        limit_threads(options.engine)
        done, begun = 0, time.perf_counter()
        while not done or time.perf_counter() - begun < seconds:
            # The scale's samples again and again, where they are numbered.
            pipeline.votes(image, sigma=sigma, seed=first, first=done if whole is None else 0, count=most)
            done += most
        return done

    begun = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        draws = sum(pool.map(run, range(callers)))
    pace = draws / (time.perf_counter() - begun)
    after = _resident()
    return Pace(
        draws_per_second=pace,
        engine=options.engine,
        gflop=gflop,
        megabytes=manifest.figures["megabytes_per_sample"],
        together=pipeline.micro_batch,
        mebibytes=None if before is None or after is None else max(0.0, after - before),
    )


def _resident() -> float | None:
    """MiB of this process in memory, on Linux."""
    if sys.platform != "linux":
        return None
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    import resource

    return pages * resource.getpagesize() / 2**20
