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
from benchmarks.digits import evaluate, train_bundles  # noqa: E402
from certify.models.bundle import load_manifest, verify  # noqa: E402
from certify.models.runtime import load_pipeline  # noqa: E402
from certify.models.train.runs.digits.classifier import CONFIG as FINETUNING  # noqa: E402
from certify.models.train.runs.digits.plain import CONFIG  # noqa: E402
from certify.service.backends.embedded import EmbeddedBackend  # noqa: E402
from certify.service.research.threshold_choice import CANDIDATES  # noqa: E402

TINY = dataclasses.replace(
    CONFIG,
    steps=2,
    batch=8,
    log_every=1,
    sigmas=(0.25, 0.5),
    report_sigmas=(0.25, 0.5, 0.75),
    max_images=2,
    tune_samples=128,
    evaluate_samples=256,
)
COMMAND = "python -m benchmarks.digits digits --train"
SHORT = dataclasses.replace(FINETUNING, steps=2, batch=8, warmup_steps=1, checkpoint_every=2)


@pytest.mark.slow
def test_training_ends_with_a_bundle_that_loads_and_a_card_with_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plain, work = tmp_path / "bundle", tmp_path / "plain", tmp_path / "work"
    threads = torch.get_num_threads()
    train_bundles(TINY, SHORT, folder, plain, work)
    torch.set_num_threads(threads)
    figures = evaluate(TINY, folder, TINY.evaluate_samples, work)

    manifest, before = load_manifest(folder), load_manifest(plain)
    verify(folder, manifest)
    verify(plain, before)
    assert (manifest.name, before.name) == ("digits", "digits_plain")
    assert manifest.provenance["finetuned_from"] == before.digest and manifest.thresholds == before.thresholds
    assert manifest.provenance["command"] == manifest.provenance["finetuned_by"] == COMMAND
    assert manifest.dtype == before.dtype == TINY.dtype
    assert manifest.sigmas == (0.25, 0.5)
    assert manifest.thresholds[1] in CANDIDATES
    votes = load_pipeline(folder).votes(np.zeros((1, 8, 8), np.float32), sigma=0.25, seed=0, first=0, count=32)
    assert votes.sum() == 32
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert figures["images"] == 2 and list(figures["shares"]) == ["0.25", "0.5", "0.75"]
    assert f"{figures['rows']['the service, 256 in all']['acr']:.4f}" in card and COMMAND in card
    assert json.dumps(figures) == json.dumps(dict(manifest.figures))

    # Measured again it goes on from what was drawn: the figures are the same, and no image is asked about.
    async def refuse(self: object, *asked: object, **named: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(EmbeddedBackend, "chunk_votes", refuse)
    again = evaluate(TINY, folder, TINY.evaluate_samples, work)
    assert json.dumps(again) == json.dumps(figures)
