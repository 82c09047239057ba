"""models.train.noisy: what training adds is the noise of each scale's own kind."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (pip install 'certify[train]')")

import torch

from certify.models.bundle import find_bundle, load_manifest
from certify.models.noise import add_noise, grey_steps, numpy_noise
from certify.models.noise_laws import law_of
from certify.models.noises import laplace_b, offsets
from certify.models.train.noisy import kinds_of, noisy

S = 0.25
IMAGE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 8, 8)).astype(np.float32) / np.float32(255))
MANY = 4_000


def drawn(kind: str) -> np.ndarray:
    torch.manual_seed(0)
    images = IMAGE.repeat(MANY, 1, 1, 1)
    return (noisy(images, torch.full((MANY,), S), {S: kind, 0.5: "uniform"}) - images).numpy()


@pytest.mark.parametrize("kind", ["gaussian", "laplace", "uniform"])
def test_drawn_noise_has_its_law(kind: str) -> None:
    """Standard deviation and fourth moment over 256,000 values, five standard errors wide."""
    noise = drawn(kind)
    kurtosis = {"gaussian": 3.0, "laplace": 6.0, "uniform": 1.8}[kind]
    assert noise.std() == pytest.approx(S, rel=0.01)
    assert (noise**4).mean() / (noise**2).mean() ** 2 == pytest.approx(kurtosis, rel=0.05)
    if kind == "uniform":
        assert np.abs(noise).max() <= offsets(S) / 510 + 1e-6
    if kind == "laplace":
        assert np.abs(noise).mean() == pytest.approx(float(laplace_b(S)), rel=0.02)


def test_splitting_shows_what_the_networks_are_asked_about() -> None:
    """Every picture is one of the N that are counted, and nearly all of the N come."""
    law = law_of("splitting", S)
    pixels = grey_steps(IMAGE.numpy())
    whole = add_noise(law, pixels, numpy_noise(law, 0, 0, law.cell, (1, 1, 8, 8)), np.float32(255))
    counted = {picture.tobytes() for picture in whole.astype(np.float32)}
    torch.manual_seed(0)
    images = IMAGE.repeat(MANY, 1, 1, 1)
    seen = {picture.tobytes() for picture in noisy(images, torch.full((MANY,), S), {S: "splitting"}).numpy()}
    assert seen <= counted and len(seen) > 0.99 * len(counted)


def test_each_image_has_the_noise_of_its_own_scale() -> None:
    scales = torch.tensor([S, 0.5] * 500)
    images = torch.zeros(1000, 1, 8, 8)
    seen = noisy(images, scales, {S: "uniform", 0.5: "laplace"}).numpy()
    assert np.abs(seen[::2]).max() <= offsets(S) / 510 + 1e-6 < np.abs(seen[1::2]).max()
    assert seen[1::2].std() == pytest.approx(0.5, rel=0.05)


def test_where_all_is_gaussian_training_draws_what_it_always_did() -> None:
    images, scales = IMAGE.repeat(6, 1, 1, 1), torch.tensor([0.12, S, 0.5] * 2)
    kinds = kinds_of(load_manifest(find_bundle("digits")))
    torch.manual_seed(3)
    seen = noisy(images, scales, kinds)
    torch.manual_seed(3)
    assert torch.equal(seen, images + scales.view(-1, 1, 1, 1) * torch.randn_like(images))


def test_a_bundle_says_what_it_is_trained_with() -> None:
    manifest = load_manifest(find_bundle("digits"))
    other = dataclasses.replace(manifest, noise=("laplace", "uniform", "gaussian"), norm="l1")
    assert kinds_of(other) == dict(zip(manifest.sigmas, other.noise, strict=True))
