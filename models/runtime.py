"""Where and how a bundle's network runs: device, engine, threads, micro-batch, loading and warm-up.

On a CPU, one worker thread for each core, each computing a micro-batch by itself: small convolutions gain nothing from
a second thread, OpenMP's spinning collapses when somebody else needs the core, and one thread never splits a sum, so
votes do not depend on the number of cores.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .bundle import Manifest, find_bundle, load_manifest, verify
from .engine_openvino import OpenVinoEngine, graph_of, openvino_dtype
from .engines import ENGINES, OPENVINO, TORCH, Engine, default_engine
from .errors import BundleError
from .noise import CPU_GENERATOR, CUDA_GENERATOR
from .openvino_trial import refusal
from .pipeline import Pipeline

__all__ = (
    "RuntimeOptions",
    "limit_threads",
    "load_pipeline",
    "options_for",
    "usable_cores",
)

logger = logging.getLogger(__name__)

# 64: 128 is 10 to 20% faster in torch, no faster in OpenVINO, and pads short looks twice as much.
CPU_MICRO_BATCH = 64
# Not measured yet: 512 where a CPU takes 64, enough that a launch costs little beside 3x32x32 images.
CUDA_TIMES = 8
# A first micro-batch of less time says more of the engine's own first steps: another is timed.
FIRST_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """How to run. device, engine, micro_batch and dtype can move a vote's last bits; workers cannot."""

    device: str = "cpu"  # or "cuda"
    engine: str = TORCH  # an engine's name, as answers report it
    micro_batch: int | None = None  # samples in one forward; None = as the bundle proposes, or the device's own
    workers: int | None = None  # micro-batches computed at once; None = one for each usable core
    dtype: str | None = None  # None = the bundle's, which alone is served; another one to compare with it

    def micro_batch_for(self, manifest: Manifest) -> int:
        """A multiple of its chunk, unless another number was asked for."""
        if self.micro_batch is not None:
            return self.micro_batch
        usual = manifest.micro_batch or -(-CPU_MICRO_BATCH // manifest.chunk) * manifest.chunk
        return usual * CUDA_TIMES if self.device == "cuda" else usual

    @property
    def callers(self) -> int:
        """Threads that should call the engine. OpenVINO computes in threads of its own: while it has a caller's batch,
        another makes noise and counts votes, and neither waits for the other's hold of the interpreter."""
        workers = self.workers or usable_cores()
        return 2 * workers if self.engine == OPENVINO else workers

    def runs_in(self, dtype: str) -> str:
        """What a bundle of that dtype runs in here: OpenVINO has bfloat16 on some CPUs only."""
        return openvino_dtype(dtype) if self.engine == OPENVINO else dtype

    @property
    def generator(self) -> str:
        """Of the noise: the engine's, known before it is made."""
        return CUDA_GENERATOR if self.device == "cuda" else CPU_GENERATOR


def options_for(
    device: str = "cpu",
    engine: str = "auto",
    *,
    bundle: str | Path | None = None,
    micro_batch: int | None = None,
    workers: int | None = None,
) -> RuntimeOptions:
    """Defaults of a device, "cpu" or "cuda". engine: one of ENGINES, or auto: the fastest that is installed.

    bundle: what will run, a name or a folder. Where OpenVINO is to run it, that is tried in a child process first
    (models.openvino_trial), since its compiler may crash; where it cannot, auto means torch. Raises BundleError for an
    engine that there is not, on that device or for that bundle. Whether the device is here is not asked.
    """
    chosen = default_engine(device) if engine == "auto" else engine
    if chosen not in ENGINES:
        raise BundleError(f"engine: expected auto, {' or '.join(ENGINES)}, got {engine}")
    if chosen == "openvino" and device != "cpu":
        raise BundleError(f"engine: expected torch on {device}, got openvino, which runs on a CPU")
    options = RuntimeOptions(device=device, engine=TORCH, micro_batch=micro_batch, workers=workers)
    if chosen == "openvino" and bundle is not None and find_spec("openvino"):
        folder = find_bundle(bundle)
        if why := refusal(folder, micro_batch=options.micro_batch_for(load_manifest(folder))):
            if engine != "auto":
                raise BundleError(f"{folder}: engine: expected auto or torch, got openvino, which cannot run it: {why}")
            logger.warning("torch runs the bundle %s, since openvino cannot: %s", folder, why)
            chosen = "torch"
    return replace(options, engine=OPENVINO) if chosen == "openvino" else options


def usable_cores() -> int:
    """Cores this process may run on: the affinity mask, which containers narrow, not the machine's count."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_threads(engine: str = TORCH) -> None:
    """One intra-op thread for the calling thread's operations; call it in every thread that calls the engine.

    OpenVINO computes in threads of its own: there is nothing to limit.
    """
    if engine == TORCH:
        import torch

        torch.set_num_threads(1)


def load_pipeline(name_or_path: str | Path, options: RuntimeOptions | None = None) -> Pipeline:
    """Find, verify and load a bundle, and run each of its functions once. options: None = this machine's own.

    Raises BundleError if a file is missing, altered or not of its format, or if the networks do not fit the manifest;
    ImportError if the engine's packages are not installed.
    """
    options = options or options_for(bundle=name_or_path)
    if options.engine == OPENVINO and not find_spec("openvino"):
        raise BundleError("engine: expected torch, since openvino is not installed here, got openvino")
    folder = find_bundle(name_or_path)
    manifest = load_manifest(folder)
    verify(folder, manifest)
    try:
        micro_batch = options.micro_batch_for(manifest)
        pipeline = Pipeline(_engine(folder, manifest, options), manifest, micro_batch=micro_batch)
        _warm_up(pipeline)
    except (BundleError, ImportError):
        raise
    except Exception as error:
        # Whatever OpenVINO, diffusers, timm or torch raise here (a key, a shape, a value): the files are not such a
        # bundle.
        raise BundleError(f"{folder}: the networks cannot be loaded as the manifest says: {error}") from error
    return pipeline


def _engine(folder: Path, manifest: Manifest, options: RuntimeOptions) -> Engine:
    dtype = options.dtype or manifest.dtype
    if options.engine == OPENVINO:
        return OpenVinoEngine(
            *graph_of(folder, manifest), dtype=dtype, batch=options.micro_batch_for(manifest),
            streams=options.workers or usable_cores(),
        )  # fmt: skip
    import torch

    from .engine_torch import CudaEngine, TorchEngine
    from .networks import load_networks

    if options.device == "cuda" and not torch.cuda.is_available():
        raise BundleError("device: expected cpu, since torch finds no CUDA device here, got cuda")
    kind = CudaEngine if options.device == "cuda" else TorchEngine
    return kind(load_networks(folder, manifest), dtype=dtype, device=options.device)


def _warm_up(pipeline: Pipeline) -> None:
    """First forwards are slow (kernels are made for the shape), and wrong shapes show here.

    One micro-batch where the scales differ in constants alone; a large picture's takes its time.
    """
    manifest = pipeline.manifest
    image = np.zeros(manifest.input_shape, dtype=np.float32)
    functions = {(name, sigma in manifest.denoised_sigmas): sigma for sigma, name in manifest.classifiers.items()}
    took = 0.0
    for sigma in functions.values():
        took = max(took, _seconds(pipeline, image, sigma))
    if took < FIRST_SECONDS:
        took = _seconds(pipeline, image, manifest.sigmas[-1])
    pipeline.batch_seconds = took
    pipeline.classify(image)
    rate = pipeline.micro_batch / took
    logger.info("the bundle %s: about %.3g draws a second for each worker", manifest.name, rate)


def _seconds(pipeline: Pipeline, image: NDArray[np.float32], sigma: float) -> float:
    """Of one micro-batch, here and now."""
    began = time.perf_counter()
    pipeline.votes(image, sigma=sigma, seed=0, first=0, count=pipeline.manifest.chunk)
    return time.perf_counter() - began
