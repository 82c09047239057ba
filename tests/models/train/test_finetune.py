"""Fine-tuning at a tiny scale: what it trains, that it goes on where it was stopped, and the bundle it writes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="training needs accelerate (pip install 'certify[train]')")
pytest.importorskip("sklearn")

import numpy as np
import torch

from certify.models.bundle import find_bundle, load_manifest, verify
from certify.models.errors import BundleError
from certify.models.runtime import load_pipeline
from certify.models.train import finetune as module
from certify.models.train import stage
from certify.models.train.data import load_digits
from certify.models.train.finetune import finetune, write_finetuned
from certify.models.train.runs.digits.brier_anti import CONFIG
from certify.models.train.stage import CheckpointError

pytestmark = pytest.mark.slow
TINY = dataclasses.replace(CONFIG, steps=4, batch=8, warmup_steps=1, checkpoint_every=2)
START = find_bundle("digits")


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    digits = load_digits()
    return torch.from_numpy(digits.images[:64]), torch.from_numpy(digits.labels[:64])


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("trains", ["denoiser", "classifier"])
def test_one_network_learns_and_the_other_stays(data, tmp_path: Path, trains: str) -> None:
    before = module._load(START, torch.device("cpu"))
    after = finetune(dataclasses.replace(TINY, trains=trains), *data, START, tmp_path, progress=False)
    frozen = "classifier" if trains == "denoiser" else "denoiser"
    assert same(weights(getattr(before, frozen)), weights(getattr(after, frozen)))
    assert not same(weights(getattr(before, trains)), weights(getattr(after, trains)))


def test_stopped_and_started_again_it_ends_with_the_same_weights(data, tmp_path: Path, monkeypatch) -> None:
    whole = finetune(TINY, *data, START, tmp_path / "whole", progress=False)
    save = stage.save_checkpoint

    def stop(*arguments: object) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        finetune(TINY, *data, START, tmp_path / "parts", progress=False)
    monkeypatch.undo()
    torch.manual_seed(12345)  # whatever happened in between
    parts = finetune(TINY, *data, START, tmp_path / "parts", progress=False)
    assert same(weights(whole.denoiser), weights(parts.denoiser))


def test_another_runs_checkpoint_is_refused_by_field(data, tmp_path: Path) -> None:
    finetune(TINY, *data, START, tmp_path, progress=False)
    other = dataclasses.replace(TINY, learning_rate=1.0)
    with pytest.raises(CheckpointError, match=r"learning_rate: expected 1\.0, got 0\.0002"):
        finetune(other, *data, START, tmp_path, progress=False)


def test_the_oracle_is_the_start_bundles_answer_on_the_clean_image(data) -> None:
    classifier = module._load(START, torch.device("cpu")).classifier
    oracle = dataclasses.replace(TINY, target="oracle", augment_share=0.0)
    wrong = (data[1] + 1) % 10  # the labels must not matter
    x, target, sigma = module._batch(oracle, data[0], wrong, torch.tensor([0.5]), torch.device("cpu"), classifier)
    assert torch.equal(target, classifier(x).argmax(dim=1))
    assert sigma.tolist() == [0.5] * 8


def test_it_ends_with_a_bundle_that_loads_and_names_its_origin(data, tmp_path: Path) -> None:
    networks = finetune(TINY, *data, START, tmp_path / "work", progress=False)
    out = tmp_path / "bundle"
    written = write_finetuned(TINY, networks, START, out)
    manifest, start = load_manifest(out), load_manifest(START)
    verify(out, manifest)
    assert manifest.digest == written.digest != start.digest
    assert manifest.provenance["finetuned_from"] == start.digest
    assert (manifest.sigmas, manifest.thresholds) == (start.sigmas, start.thresholds)
    votes = load_pipeline(out).votes(np.zeros((1, 8, 8), np.float32), sigma=0.25, seed=0, first=0, count=32)
    assert votes.sum() == 32
    with pytest.raises(BundleError, match="empty"):
        write_finetuned(TINY, networks, START, out)


def test_an_altered_start_is_refused(data, tmp_path: Path) -> None:
    shutil.copytree(START, tmp_path / "bundle")
    (tmp_path / "bundle" / "classifier" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"model\.safetensors"):
        finetune(TINY, *data, tmp_path / "bundle", tmp_path / "work", progress=False)
