"""The shipped fashion bundle: its size and cost, and that it still reads clothing. Its card has the figures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from certify.models.bundle import find_bundle, load_manifest
from certify.models.datasets import open_dataset

FOLDER = find_bundle("fashion")


def test_its_classes_and_size_are_the_datas() -> None:
    manifest = load_manifest(FOLDER)
    assert manifest.classes == open_dataset("fashion").classes and manifest.input_shape == (1, 28, 28)
    assert manifest.sigmas == (0.25, 0.5, 1.0)
    assert manifest.provenance["config"]["tune_images"] == 500  # of the training part; what ships is of the test part


def test_a_sample_costs_at_most_250_mflop_and_the_weights_less_than_3_megabytes() -> None:
    pytest.importorskip("torch")
    from benchmarks.cost import size

    measured, stated = size(FOLDER), load_manifest(FOLDER).figures
    assert 1 < measured["mflop_per_sample"] <= 250 and 0.1 < measured["weights_megabytes"] < 3
    assert measured.items() <= stated.items()
    assert f"{measured['mflop_per_sample']:.0f} MFLOP" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_pictures_are_read_clean_and_under_noise() -> None:
    """40 and 20 of them. At shares of .93 clean and .88 at .5, 30 and 11 right are five standard errors below."""
    pytest.importorskip("openvino", reason="pip install 'certify[cpu]'")
    from certify.models.runtime import load_pipeline

    pipeline, data = load_pipeline(FOLDER), open_dataset("fashion")
    pixels = [np.asarray(Image.open(io.BytesIO(data.read(at)))) for at in range(40)]
    images = [image[None].astype(np.float32) / np.float32(255) for image in pixels]
    clean = [pipeline.classify(image) == label for image, label in zip(images, data.labels, strict=False)]
    noisy = [
        int(np.argmax(pipeline.votes(images[at], sigma=0.5, seed=at, first=0, count=32))) == data.labels[at]
        for at in range(20)
    ]
    assert sum(clean) >= 30 and sum(noisy) >= 11
