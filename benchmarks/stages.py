"""Where the time of a sample goes: noise, network, counting; and within the network, operator by operator.

One thread, one micro-batch at a time, as each worker runs. Each engine is profiled by its own means: OpenVINO counts
the time of the operators that it made of the graph ("Subgraph": what it fused), torch has a profiler.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # public, but no stub exports it
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import progress, table
from certify.models.engine_openvino import OpenVinoEngine
from certify.models.noise import add_noise, grey_steps
from certify.models.noise_laws import GREY_STEPS, law_of
from certify.models.pipeline import Pipeline
from certify.models.runtime import limit_threads, load_pipeline, options_for

__all__ = ("measure", "openvino_operators", "operators", "text")

TOP = 8  # operators shown; what is left is a few per cent


def measure(bundle: str, *, seconds: float) -> dict[str, Any]:
    """Milliseconds a micro-batch of each stage, and shares. seconds: spent on each stage."""
    limit_threads()
    pipeline = load_pipeline(bundle, options_for(workers=1))
    manifest, engine, chunk = pipeline.manifest, pipeline.engine, pipeline.manifest.chunk
    image, sigma, size = np.full(manifest.input_shape, 0.2, np.float32), manifest.sigmas[0], pipeline.micro_batch
    law, steps = law_of("gaussian", sigma), engine.place(np.full((1, 1, 1), GREY_STEPS, dtype=np.float32))

    def noise() -> Any:
        return engine.noise(law, 1, 0, size // chunk, (chunk, *manifest.input_shape))

    noisy = add_noise(law, engine.place(grey_steps(image)), noise(), steps)
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
        "operators": {
            **({"openvino": openvino_operators(bundle)} if isinstance(engine, OpenVinoEngine) else {}),
            "torch": operators(plain),
        },
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
    spent = {event.key: float(getattr(event, by)) for event in seen.key_averages() if event.device_type == kind}
    return _shares(spent)


def openvino_operators(bundle: str, *, times: int = 3) -> dict[str, float]:
    """As `operators`, in the openvino engine, compiled once more with counters, which take a little time themselves."""
    import openvino

    compiled = []
    compile_model = openvino.Core.compile_model

    def counting(core: Any, model: Any, device: str, options: dict[str, Any]) -> Any:
        compiled.append(compile_model(core, model, device, {**options, "PERF_COUNT": True}))
        return compiled[-1]

    with mock.patch.object(openvino.Core, "compile_model", counting):  # the engine itself has no use for counters
        load_pipeline(bundle, options_for(engine="openvino", workers=1))
    request = compiled[-1].create_infer_request()
    inputs = [np.full(tuple(port.shape), 0.5, np.float32) for port in compiled[-1].inputs]
    spent: Counter[str] = Counter()
    for _ in range(1 + times):  # the first finds nothing in the caches; the counters are of the last
        request.infer(inputs)
    for operator in request.get_profiling_info():
        spent[operator.node_type] += operator.real_time.total_seconds()
    return _shares(spent)


def _shares(spent: Mapping[str, float]) -> dict[str, float]:
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
        seen.append(
            f"{bundle}: the classifier has {f['classifier_share_of_flop']:.0%} of the FLOP, the denoiser the rest."
        )
        for engine, found in f["operators"].items():
            names = ", ".join(f"{key.removeprefix('aten::')[:60]} {share:.0%}" for key, share in found.items())
            seen.append(f"{bundle}, by operator, {engine}: {names}.")
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
    counts: list[int] = []
    for call in (pipeline.engine.plain, lambda x: pipeline.engine.logits(x, pipeline.manifest.sigmas[0])):
        with FlopCounterMode(display=False) as counter:
            call(images)
        counts.append(counter.get_total_flops())
    return counts[0] / counts[1]
