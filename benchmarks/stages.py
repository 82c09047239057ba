"""Where the time of a sample goes: noise, network, counting; and within the network, operator by operator.

One thread, one micro-batch at a time, as each worker runs. torch's own profiler looks into the torch engine: OpenVINO
fuses operators, and shows only the whole.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import progress, table
from models.pipeline import Pipeline
from models.runtime import limit_threads, load_pipeline, options_for

__all__ = ("measure", "operators", "text")

TOP = 8  # operators shown; what is left is a few per cent


def measure(bundle: str, *, seconds: float) -> dict[str, Any]:
    """Milliseconds a micro-batch of each stage, and shares. seconds: spent on each stage."""
    limit_threads()
    pipeline = load_pipeline(bundle, options_for(workers=1))
    manifest, engine, chunk = pipeline.manifest, pipeline.engine, pipeline.manifest.chunk
    image, sigma, size = np.full(manifest.input_shape, 0.5, np.float32), manifest.sigmas[0], pipeline.micro_batch

    def noise() -> torch.Tensor:
        return engine.noise(1, 0, size // chunk, (chunk, *manifest.input_shape))

    noisy = noise()
    stages = {
        "noise": _milliseconds(noise, seconds),
        "network": _milliseconds(lambda: engine.logits(noisy, sigma), seconds),
    }
    whole = _milliseconds(lambda: pipeline.votes(image, sigma=sigma, seed=1, first=0, count=size), seconds)
    progress(f"  {bundle}: {whole:.1f} ms a micro-batch")
    plain = load_pipeline(bundle, options_for(engine="torch"))
    return {
        "engine": engine.name,
        "dtype": engine.dtype,
        "micro_batch": size,
        "milliseconds": {**stages, "whole": whole},
        "classifier_share_of_flop": _classifier_share(plain),
        "operators": operators(plain),
    }


def operators(pipeline: Pipeline, *, device: str = "cpu", times: int = 3) -> dict[str, float]:
    """Share of the network's time by torch operator (on CUDA: kernel), the largest first, then all others."""
    noisy = torch.zeros(pipeline.micro_batch, *pipeline.manifest.input_shape, device=device)
    pipeline.engine.logits(noisy, pipeline.manifest.sigmas[0])
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=kinds) as seen:
        for _ in range(times):
            pipeline.engine.logits(noisy, pipeline.manifest.sigmas[0]).cpu()
    by = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    # A kernel's time is also that of the operator that launched it: counted once.
    kind = DeviceType.CUDA if device == "cuda" else DeviceType.CPU
    spent = {each.key: float(getattr(each, by)) for each in seen.key_averages() if each.device_type == kind}
    total = sum(spent.values())
    largest = sorted(spent, key=lambda key: -spent[key])[:TOP]
    shares = {key: spent[key] / total for key in largest}
    return {**shares, "all others": 1.0 - sum(shares.values())}


def text(figures: dict[str, dict[str, Any]]) -> str:
    """figures: by bundle."""
    rows, seen = [], []
    for bundle, f in figures.items():
        spent, whole = f["milliseconds"], f["milliseconds"]["whole"]
        rest = max(0.0, whole - spent["noise"] - spent["network"])
        shares = [f"{value / whole:.1%}" for value in (spent["noise"], spent["network"], rest)]
        rows.append([bundle, f"{f['engine']}, {f['dtype']}, {f['micro_batch']}", f"{whole:.1f}", *shares])
        names = ", ".join(f"{key.removeprefix('aten::')[:60]} {share:.0%}" for key, share in f["operators"].items())
        seen.append(
            f"{bundle}: the classifier has {f['classifier_share_of_flop']:.0%} of the FLOP, the denoiser the rest. By "
            f"operator, in the torch engine: {names}."
        )
    head = ["bundle", "engine, micro-batch", "ms a micro-batch", "noise", "network", "adding, counting, the rest"]
    return "\n\n".join([table(head, rows), *seen])


def _milliseconds(call: Callable[[], object], seconds: float) -> float:
    """Median over calls for `seconds`, after one."""
    call()
    took: list[float] = []
    while not took or sum(took) < seconds:
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


def _classifier_share(pipeline: Pipeline) -> float:
    shape = (1, *pipeline.manifest.input_shape)
    images = torch.zeros(shape)
    counts = []
    for call in (pipeline.engine.plain, lambda x: pipeline.engine.logits(x, pipeline.manifest.sigmas[0])):
        with FlopCounterMode(display=False) as counter:
            call(images)
        counts.append(counter.get_total_flops())
    return counts[0] / counts[1]
