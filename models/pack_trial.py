"""Does a bundle denoise, and does its classifier still know what it sees? Tried on images before it is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .engine_torch import TorchEngine
from .engines import TORCH, Elsewhere
from .errors import BundleError
from .pipeline import Pipeline
from .remote.engine import RemoteEngine
from .remote.limits import Limits
from .runtime import RuntimeOptions, load_pipeline
from .schedule import PREDICTION_TYPES

__all__ = ("Report", "ScaleTest", "Trial", "self_test")

# How many times nearer to the clean images, at the coarsest scale, another prediction type must come before the config
# counts as wrong. At fine scales epsilon and v are nearly the same, and either reading will do; at 0.5, the digits
# bundle (v) is 1.2 times better than read wrongly.
CLEARLY = 1.15
_TEST_SEED = 2310_16779


@dataclass(frozen=True, kw_only=True)
class ScaleTest:
    """One scale of the self-test. Errors are mean squares over [0, 1] pixels."""

    sigma: float
    agreement: float  # share of images whose clean and denoised class are the same
    right: float | None  # share whose denoised class is the label, where labels were given
    noisy_error: float
    denoised_error: float


Trial = tuple[NDArray[np.float32], Sequence[int] | None]  # images (N, C, H, W) in [0, 1], and their labels
Report = tuple[float | None, list[ScaleTest]]  # clean accuracy, where labels are given; a test for each scale


def self_test(
    folder: Path,
    images: NDArray[np.float32],
    labels: Sequence[int] | None = None,
    *,
    remote: Limits | None = None,
) -> Report:
    """Try the bundle on images (N, C, H, W) in [0, 1] at each of its scales.

    remote: how to ask a classifier over the network: each image once, and once for each scale. Raises BundleError when
    the denoiser does not denoise at any scale, or would with another prediction type.
    """
    pipeline = load_pipeline(folder, RuntimeOptions(engine=TORCH, remote=remote))
    with contextlib.ExitStack() as stack:
        if isinstance(pipeline.engine, Elsewhere):
            stack.callback(pipeline.engine.close)
        return _tried(folder, pipeline, images, labels)


def _tried(folder: Path, pipeline: Pipeline, images: NDArray[np.float32], labels: Sequence[int] | None) -> Report:
    truth = None if labels is None else np.asarray(labels)
    clean = np.array([pipeline.classify(image) for image in images])
    declared = _networks(pipeline).denoiser.schedule.prediction_type
    tests = []
    for sigma in pipeline.manifest.sigmas:
        noisy = _noisy(images, sigma)
        denoised = _denoised(pipeline, noisy, sigma, declared)
        classes = _classes(pipeline, denoised)
        tests.append(
            ScaleTest(
                sigma=sigma,
                agreement=float(np.mean(classes == clean)),
                right=None if truth is None else float(np.mean(classes == truth)),
                noisy_error=_error(noisy, images),
                denoised_error=_error(denoised, images),
            )
        )
    _check_prediction_type(folder, pipeline, images, tests[-1])
    if all(test.denoised_error >= test.noisy_error for test in tests):
        raise BundleError(
            f"{folder / 'denoiser'}: expected a network that denoises images in [-1, 1], got one after which they are "
            "further from the clean ones than before, at every sigma (mean squared error "
            f"{tests[0].denoised_error:.4f} after, {tests[0].noisy_error:.4f} before, at {tests[0].sigma:g})"
        )
    return (None if truth is None else float(np.mean(clean == truth))), tests


def _check_prediction_type(folder: Path, pipeline: Pipeline, images: NDArray[np.float32], coarsest: ScaleTest) -> None:
    """Raises BundleError when, at the coarsest scale, another type brings the images clearly nearer to the clean."""
    sigma = coarsest.sigma
    noisy = _noisy(images, sigma)
    errors = {kind: _error(_denoised(pipeline, noisy, sigma, kind), images) for kind in PREDICTION_TYPES}
    best = min(PREDICTION_TYPES, key=lambda kind: errors[kind])
    declared = _networks(pipeline).denoiser.schedule.prediction_type
    times = errors[declared] / max(errors[best], 1e-12)
    if times > CLEARLY:
        raise BundleError(
            f"{folder / 'scheduler' / 'scheduler_config.json'}: prediction_type: expected {best!r}, got {declared!r}: "
            f"read as {best}, the network brings the images {times:.1f} times nearer to the clean ones at sigma "
            f"{sigma:g}"
        )


def _networks(pipeline: Pipeline) -> TorchEngine:
    """The only engine whose denoiser can be read otherwise."""
    engine = pipeline.engine.here if isinstance(pipeline.engine, RemoteEngine) else pipeline.engine
    assert isinstance(engine, TorchEngine)
    return engine


def _noisy(images: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    noise = np.random.Generator(np.random.Philox(_TEST_SEED)).standard_normal(images.shape, dtype=np.float32)
    noisy: NDArray[np.float32] = images + np.float32(sigma) * noise
    return noisy


def _denoised(pipeline: Pipeline, noisy: NDArray[np.float32], sigma: float, kind: str) -> NDArray[np.float32]:
    """Denoised images, the network's answer read as `kind`."""
    denoiser = _networks(pipeline).denoiser
    schedule, dtype = denoiser.schedule, getattr(torch, pipeline.engine.dtype)
    declared, schedule.prediction_type = schedule.prediction_type, kind
    try:
        with torch.inference_mode():
            batches = torch.split(torch.from_numpy(noisy).to(dtype), pipeline.micro_batch)
            return torch.cat([denoiser.denoise(x, sigma).float() for x in batches]).numpy()
    finally:
        schedule.prediction_type = declared


def _classes(pipeline: Pipeline, images: NDArray[np.float32]) -> NDArray[np.int64]:
    """By the classifier, wherever it is."""
    engine, size = pipeline.engine, pipeline.micro_batch
    batches = [engine.plain(engine.place(images[at : at + size])) for at in range(0, len(images), size)]
    return np.concatenate([engine.fetch(engine.labels(batch)) for batch in batches])


def _error(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.mean((a.astype(np.float64) - b) ** 2))
