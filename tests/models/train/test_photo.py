"""The photograph denoiser's training: crops, the classifier's view, and both stages on drawn pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="training needs accelerate (pip install 'certify[train]')")
pytest.importorskip("timm")

import numpy as np
import timm
import torch
from PIL import Image

from certify.models.classifier import Classifier
from certify.models.errors import DataError
from certify.models.preprocessing import bilinear
from certify.models.schedule import Schedule
from certify.models.train.photo import build_scheduler, feature_loss, train
from certify.models.train.photos import LARGEST_SIDE, Photographs
from certify.models.train.runs.photo.plain import CONFIG
from certify.models.train.stage import CheckpointError

SIZE = 32
TINY = dataclasses.replace(
    CONFIG,
    unet_channels=(8, 16),
    unet_groups=4,
    size=SIZE,
    patch=16,
    pixels_stage=dataclasses.replace(CONFIG.pixels_stage, steps=2, batch=2),
    features_stage=dataclasses.replace(CONFIG.features_stage, steps=2, batch=2),
)


def _save(folder: Path, name: str, width: int, height: int) -> None:
    """A picture whose red tells the column and whose green tells the row."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([columns * 255 // width, rows * 255 // height, np.zeros_like(rows)], axis=2)
    Image.fromarray(pixels.astype(np.uint8)).save(folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for name, width, height in (("wide.png", 90, 60), ("tall.png", 40, 80), ("small.png", 20, 24)):
        _save(tmp_path / "pictures", name, width, height)
    (tmp_path / "pictures" / "notes.txt").touch()
    return tmp_path / "pictures"


@pytest.fixture
def classifier() -> Classifier:
    """Another timm network of blocks, with random weights."""
    torch.manual_seed(0)
    net = timm.create_model("test_efficientnet", num_classes=5)
    settings = {"input_size": (3, SIZE, SIZE), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return Classifier(net, bilinear(settings)).eval().requires_grad_(False)


def test_crops_are_of_the_pictures_alone_and_the_same_for_a_seed(folder: Path) -> None:
    photographs = Photographs(folder)
    assert photographs.names == ("small.png", "tall.png", "wide.png")
    torch.manual_seed(1)
    crops = photographs.crops(12, 16, SIZE)
    assert crops.shape == (12, 3, 16, 16) and crops.dtype == torch.float32
    assert crops.min() >= 0 and crops.max() <= 1 and crops[:, :2].var() > 0.01 and not crops[:, 2].any()
    torch.manual_seed(1)
    assert torch.equal(crops, photographs.crops(12, 16, SIZE))


def test_a_crop_covers_what_the_classifier_sees_of_it(tmp_path: Path) -> None:
    """A picture of 64 x 64, seen at 32 to 64 pixels: a crop of 32 spans all of it or half, never less."""
    _save(tmp_path, "square.png", 64, 64)
    photographs = Photographs(tmp_path)
    torch.manual_seed(0)
    spans = [float(crop[0].max() - crop[0].min()) for crop in photographs.crops(40, 32, 32)]
    assert 0.45 < min(spans) < 0.6 and max(spans) > 0.9


def test_large_pictures_are_made_smaller_and_what_is_no_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder of pictures, got none"):
        Photographs(tmp_path)
    _save(tmp_path, "large.png", 3 * LARGEST_SIDE, 2 * LARGEST_SIDE)
    torch.manual_seed(0)
    assert Photographs(tmp_path).crops(1, SIZE, SIZE).shape == (1, 3, SIZE, SIZE)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(DataError, match=r"broken\.jpg: expected a picture"):
        Photographs(tmp_path)


def test_the_classifier_sees_no_difference_where_there_is_none_and_more_where_there_is_more(classifier) -> None:
    clean = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    same, little, much = (feature_loss(classifier, clean + scale * noise, clean) for scale in (0.0, 0.1, 0.5))
    assert not same[0].any() and same[1].abs().max() < 1e-6
    for none, some, more in zip(same, little, much, strict=True):
        assert none.shape == (2,) and (none < some).all() and (some < more).all()
    assert not any(block._forward_hooks for block in classifier.net.blocks)


def test_both_stages_train_it_and_it_goes_on_from_their_checkpoints(folder: Path, tmp_path: Path, classifier) -> None:
    photographs, work = Photographs(folder), tmp_path / "work"
    first = train(TINY, photographs, classifier, work)
    assert sorted(path.name for path in work.iterdir()) == ["features.pt", "pixels.pt"]
    again = train(TINY, photographs, classifier, work)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    (work / "features.pt").unlink()  # another second stage goes on from the same first one
    other = train(dataclasses.replace(TINY, feature_weight=1.0), photographs, classifier, work)
    assert not torch.equal(first.unet.conv_in.weight, other.unet.conv_in.weight)
    with pytest.raises(CheckpointError, match="sigma_low: expected 0.2"):
        train(dataclasses.replace(TINY, sigma_low=0.2), photographs, classifier, work)


def test_the_network_that_ships_learns_what_an_image_is(tmp_path: Path) -> None:
    """Its schedule covers the scales, and it answers with the image: 'sample'."""
    build_scheduler(CONFIG).save_pretrained(str(tmp_path))
    schedule = Schedule.from_folder(tmp_path)
    low, high = schedule.sigma_range
    assert schedule.prediction_type == "sample" and low < CONFIG.sigma_low < CONFIG.sigma_high < high
