"""Does a bundle denoise, and does its classifier still know what it sees? Tried on images before it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .engine_torch import TorchEngine
from .errors import BundleError
from .networks import Networks
from .pipeline import Pipeline
from .runtime import load_pipeline, options_for
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
    agreement: float  # share of images whose clean class and noisy one, denoised if it is, are the same
    right: float | None  # share whose class then is the label, where labels were given
    noisy_error: float
    denoised_error: float | None  # None where nothing denoises


Trial = tuple[NDArray[np.float32], Sequence[int] | None]  # images (N, C, H, W) in [0, 1], and their labels
Report = tuple[float | None, list[ScaleTest]]  # clean accuracy, where labels are given; a test for each scale


def self_test(folder: Path, images: NDArray[np.float32], labels: Sequence[int] | None = None) -> Report:
    """Try the bundle on images (N, C, H, W) in [0, 1] at each of its scales.

    Raises BundleError when the denoiser does not denoise at any scale, or would with another prediction type.
    """
    pipeline = load_pipeline(folder, options_for(engine="torch", bundle=folder))
    truth = None if labels is None else np.asarray(labels)
    clean = np.array([pipeline.classify(image) for image in images])
    tests = []
    for sigma in pipeline.manifest.sigmas:
        noisy = _noisy(images, sigma)
        seen, classes = _after(pipeline, noisy, sigma)
        tests.append(
            ScaleTest(
                sigma=sigma,
                agreement=float(np.mean(classes == clean)),
                right=None if truth is None else float(np.mean(classes == truth)),
                noisy_error=_error(noisy, images),
                denoised_error=_error(seen, images) if sigma in _networks(pipeline).denoised else None,
            )
        )
    _check_denoiser(folder, pipeline, images, tests)
    return (None if truth is None else float(np.mean(clean == truth))), tests


def _check_denoiser(folder: Path, pipeline: Pipeline, images: NDArray[np.float32], tests: Sequence[ScaleTest]) -> None:
    """Raises BundleError if there is one and it brings the images nearer to the clean ones at no scale."""
    by_it = [(test, test.denoised_error) for test in tests if test.denoised_error is not None]
    if by_it:
        _check_prediction_type(folder, pipeline, images, by_it[-1][0].sigma)
    if by_it and all(error >= test.noisy_error for test, error in by_it):
        test, error = by_it[0]
        raise BundleError(
            f"{folder / 'denoiser'}: expected a network that denoises images in [-1, 1], got one after which they are "
            "further from the clean ones than before, at every sigma (mean squared error "
            f"{error:.4f} after, {test.noisy_error:.4f} before, at {test.sigma:g})"
        )


def _check_prediction_type(folder: Path, pipeline: Pipeline, images: NDArray[np.float32], sigma: float) -> None:
    """Raises BundleError when, at the coarsest scale, another type brings the images clearly nearer to the clean."""
    denoiser = _networks(pipeline).denoiser
    assert denoiser is not None
    noisy, errors = _noisy(images, sigma), {}
    schedule, declared = denoiser.schedule, denoiser.schedule.prediction_type
    try:
        for kind in PREDICTION_TYPES:
            schedule.prediction_type = kind
            errors[kind] = _error(_after(pipeline, noisy, sigma)[0], images)
    finally:
        schedule.prediction_type = declared
    best = min(PREDICTION_TYPES, key=lambda kind: errors[kind])
    times = errors[declared] / max(errors[best], 1e-12)
    if times > CLEARLY:
        raise BundleError(
            f"{folder / 'scheduler' / 'scheduler_config.json'}: prediction_type: expected {best!r}, got {declared!r}: "
            f"read as {best}, the network brings the images {times:.1f} times nearer to the clean ones at sigma "
            f"{sigma:g}"
        )


def _networks(pipeline: Pipeline) -> Networks:
    """Of the only engine whose denoiser can be read otherwise."""
    assert isinstance(pipeline.engine, TorchEngine)
    return pipeline.engine.networks


def _noisy(images: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    noise = np.random.Generator(np.random.Philox(_TEST_SEED)).standard_normal(images.shape, dtype=np.float32)
    noisy: NDArray[np.float32] = images + np.float32(sigma) * noise
    return noisy


def _after(
    pipeline: Pipeline, noisy: NDArray[np.float32], sigma: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(images as the scale's classifier sees them, their classes)."""
    denoiser, classifier = _networks(pipeline).at(sigma)
    dtype = getattr(torch, pipeline.engine.dtype)
    pixels, labels = [], []
    with torch.inference_mode():
        for at in range(0, len(noisy), pipeline.micro_batch):
            x = torch.from_numpy(noisy[at : at + pipeline.micro_batch]).to(dtype)
            seen = x if denoiser is None else denoiser.denoise(x, sigma)
            pixels.append(seen.float().numpy())
            labels.append(classifier(seen).argmax(dim=1).numpy())
    return np.concatenate(pixels), np.concatenate(labels)


def _error(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.mean((a.astype(np.float64) - b) ** 2))
