"""Where and how a bundle's network runs: device, threads, micro-batch, loading and warm-up.

One engine so far, torch on a CPU, and the shape of it is measured (two cores, digits bundle): one worker thread for
each core, each with one intra-op thread, against one worker with two. Small convolutions gain nothing from a second
OpenMP thread, and OpenMP's spinning collapses when somebody else needs the core; single threads share cores well. It
also keeps votes independent of the machine: one thread never splits a sum.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.bundle import BundleError, find_bundle, load_manifest, verify
from models.classifier import Classifier
from models.denoiser import Denoiser
from models.pipeline import GENERATOR, Pipeline

__all__ = (
    "ENGINE",
    "GENERATOR",
    "RuntimeOptions",
    "limit_threads",
    "load_pipeline",
    "options_for",
    "usable_cores",
)

ENGINE = "torch"
# Not measured yet: enough that a launch costs little beside 3x32x32 images, 16 chunks.
CUDA_MICRO_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """How to run; none of it but `micro_batch` and `device` can move a vote's last bits."""

    device: str = "cpu"  # or "cuda"
    micro_batch: int = 64  # samples in one forward: 128 is 10 to 20% faster, but pads short looks twice as much
    workers: int | None = None  # threads that run micro-batches; None = one for each usable core


def options_for(device: str) -> RuntimeOptions:
    """Defaults of a device, "cpu" or "cuda". Raises BundleError when there is no such device."""
    if device == "cuda":
        if not torch.cuda.is_available():
            raise BundleError("device: expected cpu, since torch finds no CUDA device here, got cuda")
        return RuntimeOptions(device=device, micro_batch=CUDA_MICRO_BATCH)
    return RuntimeOptions(device=device)


def usable_cores() -> int:
    """Cores this process may run on: the affinity mask, which containers narrow, not the machine's count."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_threads() -> None:
    """One intra-op thread for the calling thread's torch operations; call it in every worker thread."""
    torch.set_num_threads(1)


def load_pipeline(name_or_path: str | Path, options: RuntimeOptions | None = None) -> Pipeline:
    """Find, verify and load a bundle, then run one micro-batch at each scale.

    Raises BundleError if a file is missing, altered or not of its format, or if the networks do not fit the manifest.
    """
    options = options or RuntimeOptions()
    folder = find_bundle(name_or_path)
    manifest = load_manifest(folder)
    verify(folder, manifest)
    try:
        pipeline = Pipeline(
            Denoiser.from_folder(folder),
            Classifier.from_folder(folder / "classifier"),
            manifest,
            micro_batch=options.micro_batch,
            device=options.device,
        )
        _warm_up(pipeline)
    except BundleError:
        raise
    except Exception as error:
        # Whatever diffusers, timm or torch raise here (a key, a shape, a value): these files are not such a bundle.
        raise BundleError(f"{folder}: the networks cannot be loaded as the manifest says: {error}") from error
    return pipeline


def _warm_up(pipeline: Pipeline) -> None:
    """First forwards are slow (kernels are made for the shape), and wrong shapes or scales show here."""
    manifest = pipeline.manifest
    image = np.zeros(manifest.input_shape, dtype=np.float32)
    low, high = pipeline.denoiser.schedule.sigma_range
    with torch.inference_mode():
        x = torch.zeros(pipeline.micro_batch, *manifest.input_shape, dtype=pipeline.dtype, device=pipeline.device)
        outputs = pipeline.classifier(x).shape[1]
    if outputs != len(manifest.classes):
        raise BundleError(f"classes: expected {outputs} names, as the classifier has, got {len(manifest.classes)}")
    for sigma in manifest.sigmas:
        if not low <= sigma <= high:
            raise BundleError(f"sigmas: expected values in the scheduler's range [{low:.4g}, {high:.4g}], got {sigma}")
        pipeline.votes(image, sigma=sigma, seed=0, first=0, count=manifest.chunk)
    pipeline.classify(image)
