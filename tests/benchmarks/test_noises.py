"""benchmarks.noises: counted votes by hand, and fine-tuned denoisers set beside the same images as before."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="draws what the tables are made of (pip install 'certify[torch]')")

from benchmarks.noise_counts import Counted
from benchmarks.noise_tables import alone
from certify.models.noises import offsets

SIGMAS = (0.1155, 0.2309)


def counted(*rows: list[list[int]], labels: tuple[int, ...] = (0,)) -> Counted:
    return Counted(
        sigmas=SIGMAS, thresholds=(0.5, 0.5), final="plurality", counts=np.array(rows), labels=np.array(labels),
        runtime="test",
    )  # fmt: skip


def test_one_scale_is_half_the_gap_in_grey_steps() -> None:
    votes = counted([[100, 2, 0], [150, 50, 4]])
    assert [offsets(sigma) for sigma in SIGMAS] == [102, 204]
    fine, coarse = votes.single(0), votes.single(1)
    assert fine.radius[0] == pytest.approx((100 - 2) / 510, abs=2e-6) and fine.correct.tolist() == [True]
    assert coarse.radius[0] == pytest.approx((150 - 50) / 510, abs=2e-6) and coarse.norm == "l1"
    assert (fine.samples.tolist(), coarse.samples.tolist()) == ([102], [204])


def test_first_takes_the_coarse_path_alone_and_best_the_better_one() -> None:
    """The coarse scale is barely sure: its own path is short, and the fine one's is no shorter than its shield."""
    votes = counted([[102, 0, 0], [104, 50, 50]])
    cascade = votes.cascade((0.5, 0.5), "threshold")
    first, best = votes.first("", cascade), votes.best("", cascade)
    assert first.radius[0] == pytest.approx((104 - 102) / 255, abs=2e-6)
    assert best.radius[0] == pytest.approx(min(102 - 51, 102 - 50) / 255, abs=2e-6)


def test_a_scale_that_is_not_sure_passes_the_image_on() -> None:
    votes = counted([[102, 0, 0], [96, 98, 10]], [[0, 102, 0], [0, 204, 0]], labels=(0, 0))
    assert votes.single(1).correct.tolist() == [False, False]
    assert votes.best("", votes.cascade((0.5, 0.5))).correct.tolist() == [True, False]
    rows = alone(votes, 1).splitlines()
    assert any(row.startswith("| 102 and 204, best, p0 = .5 | 1 | 1 | 0 | 0 | 0.0157 |") for row in rows)
    assert any(row.startswith("| 204 | 2 | 0 | 2 | 0 |  |") for row in rows)
