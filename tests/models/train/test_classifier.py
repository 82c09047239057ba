"""The classifier's loss, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from certify.models.train.classifier import classification_loss  # noqa: E402
from certify.models.train.runs.digits.plain import CONFIG  # noqa: E402


@pytest.mark.parametrize(
    ("loss", "on_denoised"),
    [("brier", (0.125 + 1.28) / 2), ("cross_entropy", -(math.log(0.75) + math.log(0.2)) / 2)],
)
def test_denoised_images_by_the_runs_loss_and_clean_ones_by_cross_entropy(loss: str, on_denoised: float) -> None:
    # Brier: (.75 - 1)^2 + .25^2 = .125 and .8^2 + (.2 - 1)^2 = 1.28. The last row is the clean image.
    logits = torch.tensor([[0.75, 0.25], [0.8, 0.2], [0.5, 0.5]], dtype=torch.float64).log()
    config = replace(CONFIG, loss=loss, clean_weight=0.25)
    value = classification_loss(config, logits, torch.tensor([0, 1, 1]), denoised=2)
    assert value.item() == pytest.approx(on_denoised + 0.25 * math.log(2), abs=1e-12)
