"""The CIFAR-10 recipe on forty drawn images, resumed, and the bundle that comes out."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="training needs accelerate (pip install 'certify[train]')")
pytest.importorskip("timm")

import numpy as np
import torch
from PIL import Image

from certify.models.bundle import load_manifest, verify
from certify.models.datasets import open_dataset
from certify.models.errors import BundleError, DataError
from certify.models.runtime import load_pipeline
from certify.models.train import command
from certify.models.train.classifier import build_classifier
from certify.models.train.config import FileConfig, FinetuneConfig
from certify.models.train.data import augment, decode
from certify.models.train.denoiser import build_denoiser
from certify.models.train.finetune import finetune
from certify.models.train.from_file import run
from certify.models.train.runs.cifar10.brier_anti import CONFIG as BRIER_ANTI
from certify.models.train.runs.cifar10.cpu import CONFIG as CPU
from certify.models.train.runs.cifar10.gpu import CONFIG as GPU
from certify.models.train.runs.fashion.cpu import CONFIG as FASHION_CPU
from certify.models.train.runs.fashion.gpu import CONFIG as FASHION
from certify.models.write import Networks

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train.npz with forty 32x32 images of two classes: bright above, bright below."""
    random, files = np.random.default_rng(0), []
    for number in range(40):
        pixels = random.integers(0, 100, (32, 32, 3), dtype=np.uint8)
        pixels[16 * (number % 2) :][:16] += 150
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    np.savez(
        tmp_path / "train.npz",
        jpeg=np.frombuffer(b"".join(files), dtype=np.uint8),
        offsets=np.cumsum([0, *map(len, files)]),
        labels=np.arange(40, dtype=np.uint8) % 2,
        classes=np.array(["above", "below"]),
    )
    return tmp_path


TINY = dataclasses.replace(
    CPU, unet_channels=(8, 16), tune_images=8, steps=3, batch=4, warmup_steps=1, mixed_precision="no", log_every=1
)


@pytest.mark.parametrize(("consistency", "block"), [(0.0, 1), (1.0, 1), (0.0, 2)])
def test_it_ends_with_a_bundle_that_runs_and_does_nothing_twice(
    folder: Path, tmp_path: Path, consistency: float, block: int
) -> None:
    work, config = tmp_path / "work", dataclasses.replace(TINY, consistency=consistency, unet_block=block)
    run(config, folder, work, command="by this test")
    manifest = load_manifest(work / "bundle")
    verify(work / "bundle", manifest)
    votes = load_pipeline(work / "bundle").votes(
        np.zeros((3, 32, 32), dtype=np.float32), sigma=0.5, seed=1, first=0, count=32
    )
    assert votes.shape == (2,) and votes.sum() == 32
    assert manifest.provenance["command"] == "by this test"
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*")}
    run(config, folder, work, command="by this test")
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*")} == before


def test_too_few_images_to_learn_from_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{re.escape(str(folder))}, train: expected more than 8 images.*, got 8"):
        run(TINY, folder, tmp_path / "work", command="by this test", limit=8)


def test_fine_tuning_goes_on_from_it_with_the_bundles_own_classes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = dataclasses.replace(BRIER_ANTI, tune_images=8, steps=2, batch=4, checkpoint_every=1, mixed_precision="no")
    monkeypatch.setattr(command, "find_run", lambda _: tiny)
    start, out = tmp_path / "start", tmp_path / "out"
    run(TINY, folder, start, command="by this test")
    seen: dict[str, torch.Tensor] = {}

    def watched(config: FinetuneConfig, images: torch.Tensor, labels: torch.Tensor, *rest: Path) -> Networks:
        seen.update(images=images, labels=labels)
        return finetune(config, images, labels, *rest, progress=False)

    monkeypatch.setattr(command, "finetune", watched)
    with np.load(folder / "train.npz") as stored:  # the same images, their classes numbered the other way
        turned = {**stored, "labels": 1 - stored["labels"], "classes": stored["classes"][::-1]}
    np.savez(folder / "train.npz", **turned)
    arguments = {"data": folder, "bundle": str(start / "bundle"), "work": tmp_path / "work"}
    command.train_run(tiny.name, **arguments, out=out)
    before, after = load_manifest(start / "bundle"), load_manifest(out)
    verify(out, after)
    assert after.provenance["finetuned_from"] == before.digest and after.dtype == before.dtype
    assert seen["labels"].tolist() == [0, 1] * 16 and seen["images"].shape == (32, 3, 32, 32)
    other = dataclasses.replace(tiny, tune_images=4)  # would learn from images that chose thresholds
    monkeypatch.setattr(command, "find_run", lambda _: other)
    with pytest.raises(BundleError, match=r"provenance\.split: expected 'the first 4 training images .*the first 8"):
        command.train_run(tiny.name, **arguments)


@pytest.mark.parametrize(
    ("config", "flop", "megabytes"),
    [(CPU, 0.8e9, 10), (GPU, 1.5e9, 10), (FASHION, 0.25e9, 3), (FASHION_CPU, 0.2e9, 4)],
    ids=["cpu", "gpu", "fashion", "fashion_cpu"],
)
def test_the_networks_are_within_their_budget(config: FileConfig, flop: float, megabytes: float) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    networks = Networks(build_denoiser(config, config.shape), build_classifier(config, config.shape, 10))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        networks.classifier(networks.denoiser(torch.zeros(1, *config.shape), torch.tensor([0.5])))
    assert counter.get_total_flops() <= flop
    weights = sum(p.numel() for network in networks for p in network.parameters())
    assert weights * (4 if config.dtype == "float32" else 2) <= megabytes * 1e6


def test_decoding_is_the_services(folder: Path) -> None:
    from certify.service.answering.images import decode_image

    data = open_dataset(str(folder / "train.npz")).part(limit=3)
    images, labels = decode(data, shape=(3, 32, 32))
    assert labels.tolist() == [0, 1, 0]
    for position in range(3):
        tensor = decode_image(data.read(position), (3, 32, 32), resize=False, max_pixels=10_000).tensor
        assert np.array_equal(images[position].numpy().astype(np.float32) / np.float32(255), tensor)
    with pytest.raises(DataError, match=r"train, image 0: expected \(3, 16, 16\)"):
        decode(data, shape=(3, 16, 16))


def test_a_flip_mirrors_about_half_and_changes_nothing_else() -> None:
    torch.manual_seed(0)
    images = torch.rand(64, 3, 8, 8)
    out = augment(images, share=0.0, degrees=0.0, scale=0.0, shear=0.0, shift_pixels=0.0, flip=True)
    same = [(a - b).abs().max() < 1e-5 for a, b in zip(out, images, strict=True)]
    mirrored = [(a - b.flip(-1)).abs().max() < 1e-5 for a, b in zip(out, images, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True)) and 16 < sum(mirrored) < 48
