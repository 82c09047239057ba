"""Does a bundle denoise, and does its classifier still know what it sees? Tried on images before it is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .denoiser import Denoiser
from .engines import Elsewhere
from .errors import BundleError
from .pipeline import Pipeline
from .remote.limits import Limits
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
    pipeline = load_pipeline(folder, options_for(bundle=folder, remote=remote))
    with contextlib.ExitStack() as stack:
        if isinstance(pipeline.engine, Elsewhere):
            stack.callback(pipeline.engine.close)
        return _tried(folder, pipeline, images, labels)


def _tried(folder: Path, pipeline: Pipeline, images: NDArray[np.float32], labels: Sequence[int] | None) -> Report:
    manifest = pipeline.manifest
    denoiser = Denoiser.from_folder(folder).eval() if manifest.denoised_sigmas else None
    truth = None if labels is None else np.asarray(labels)
    clean = np.array([pipeline.classify(image) for image in images])
    tests = []
    for sigma in manifest.sigmas:
        noisy = _noisy(images, sigma)
        classes = _classes(pipeline, noisy, sigma)
        seen = denoiser if sigma in manifest.denoised_sigmas else None
        tests.append(
            ScaleTest(
                sigma=sigma,
                agreement=float(np.mean(classes == clean)),
                right=None if truth is None else float(np.mean(classes == truth)),
                noisy_error=_error(noisy, images),
                denoised_error=(
                    None if seen is None else _error(_denoised(seen, noisy, sigma, pipeline.micro_batch), images)
                ),
            )
        )
    if denoiser is not None:
        _check_denoiser(folder, denoiser, images, tests, pipeline.micro_batch)
    return (None if truth is None else float(np.mean(clean == truth))), tests


def _check_denoiser(
    folder: Path, denoiser: Denoiser, images: NDArray[np.float32], tests: Sequence[ScaleTest], batch: int
) -> None:
    """Raises BundleError if it brings the images nearer to the clean ones at no scale."""
    by_it = [(test, test.denoised_error) for test in tests if test.denoised_error is not None]
    _check_prediction_type(folder, denoiser, images, by_it[-1][0].sigma, batch)
    if all(error >= test.noisy_error for test, error in by_it):
        test, error = by_it[0]
        raise BundleError(
            f"{folder / 'denoiser'}: expected a network that denoises images in [-1, 1], got one after which they are "
            "further from the clean ones than before, at every sigma (mean squared error "
            f"{error:.4f} after, {test.noisy_error:.4f} before, at {test.sigma:g})"
        )


def _check_prediction_type(
    folder: Path, denoiser: Denoiser, images: NDArray[np.float32], sigma: float, batch: int
) -> None:
    """Raises BundleError when, at the coarsest scale, another type brings the images clearly nearer to the clean."""
    noisy, errors = _noisy(images, sigma), {}
    schedule, declared = denoiser.schedule, denoiser.schedule.prediction_type
    for kind in PREDICTION_TYPES:
        schedule.prediction_type = kind
        errors[kind] = _error(_denoised(denoiser, noisy, sigma, batch), images)
    schedule.prediction_type = declared
    best = min(PREDICTION_TYPES, key=lambda kind: errors[kind])
    times = errors[declared] / max(errors[best], 1e-12)
    if times > CLEARLY:
        raise BundleError(
            f"{folder / 'scheduler' / 'scheduler_config.json'}: prediction_type: expected {best!r}, got {declared!r}: "
            f"read as {best}, the network brings the images {times:.1f} times nearer to the clean ones at sigma "
            f"{sigma:g}"
        )


def _noisy(images: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    noise = np.random.Generator(np.random.Philox(_TEST_SEED)).standard_normal(images.shape, dtype=np.float32)
    noisy: NDArray[np.float32] = images + np.float32(sigma) * noise
    return noisy


def _denoised(denoiser: Denoiser, noisy: NDArray[np.float32], sigma: float, batch: int) -> NDArray[np.float32]:
    """In float32, whatever the bundle runs in."""
    with torch.inference_mode():
        parts = [denoiser.denoise(part, sigma).numpy() for part in torch.split(torch.from_numpy(noisy), batch)]
    return np.concatenate(parts)


def _classes(pipeline: Pipeline, noisy: NDArray[np.float32], sigma: float) -> NDArray[np.int64]:
    """What the bundle sees in them at that scale, in its engine's full micro-batches."""
    engine, size = pipeline.engine, pipeline.micro_batch
    classes = []
    for at in range(0, len(noisy), size):
        part = noisy[at : at + size]
        padded = np.concatenate((part, np.zeros((size - len(part), *part.shape[1:]), dtype=np.float32)))
        logits = engine.logits(engine.place(padded), sigma)[: len(part)]
        classes.append(engine.fetch(engine.labels(logits)))
    return np.concatenate(classes)


def _error(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.mean((a.astype(np.float64) - b) ** 2))
