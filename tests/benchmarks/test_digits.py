"""The training command at a tiny scale, so that it cannot rot."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("accelerate", reason="training needs accelerate (pip install 'certify[train]')")
from benchmarks.digits import evaluate  # noqa: E402
from certify.models.bundle import load_manifest, verify  # noqa: E402
from certify.models.runtime import load_pipeline  # noqa: E402
from certify.models.train import __main__ as command  # noqa: E402
from certify.models.train.runs.digits import CONFIG  # noqa: E402
from certify.models.train.runs.digits_classifier import CONFIG as FINETUNING  # noqa: E402

TINY = dataclasses.replace(
    CONFIG,
    steps=2,
    batch=8,
    log_every=1,
    sigmas=(0.25, 0.5),
    report_sigmas=(0.25, 0.5),
    candidate_thresholds=(0.5, 0.9),
    max_images=2,
    tune_samples=64,
    evaluate_samples=128,
    samples=256,
)
SHORT = dataclasses.replace(FINETUNING, steps=2, batch=8, warmup_steps=1, checkpoint_every=2)


@pytest.mark.slow
def test_training_ends_with_a_bundle_that_loads_and_a_card_with_its_figures(tmp_path: Path) -> None:
    folder, plain, work = tmp_path / "bundle", tmp_path / "plain", tmp_path / "work"
    threads = torch.get_num_threads()
    command.run(TINY, SHORT, folder, plain, work)
    torch.set_num_threads(threads)

    manifest, before = load_manifest(folder), load_manifest(plain)
    verify(folder, manifest)
    verify(plain, before)
    assert (manifest.name, before.name) == ("digits", "digits_plain")
    assert manifest.provenance["finetuned_from"] == before.digest and manifest.thresholds == before.thresholds
    assert manifest.provenance["command"] == manifest.provenance["finetuned_by"] == "python -m models.train digits"
    assert manifest.dtype == before.dtype == TINY.dtype
    assert manifest.sigmas == (0.25, 0.5)
    assert manifest.thresholds[1] in TINY.candidate_thresholds
    votes = load_pipeline(folder).votes(np.zeros((1, 8, 8), np.float32), sigma=0.25, seed=0, first=0, count=32)
    assert votes.sum() == 32
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "the cascade, as shipped" in card and f"{manifest.figures['rows']['cascade']['acr']:.4f}" in card

    # Measured again it goes on from the checkpoints: the figures are the same, and nothing is drawn.
    lines: list[str] = []
    again = evaluate(TINY, folder, TINY.evaluate_samples, work, lines.append)
    assert json.dumps(again) == json.dumps(dict(manifest.figures))
    assert [line for line in lines if "for each of 0 images" in line]
