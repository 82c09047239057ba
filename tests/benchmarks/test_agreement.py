"""benchmarks.agreement on a few digits: the same noise for everybody, and figures that follow from the votes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="compares what runs the network (pip install 'certify[torch]')")
pytest.importorskip("sklearn", reason="the digits come with scikit-learn (pip install 'certify[train]')")

from benchmarks.agreement import PILOT, Variant, check_text, compare, differing, table
from certify.models.datasets import open_dataset
from certify.models.runtime import options_for


def test_one_engine_agrees_with_itself_and_draws_what_was_asked_for():
    options = [options_for(engine="torch")] * 2
    images, (first, second) = compare("digits", open_dataset("digits").part(limit=2), 60, options)
    assert images == 2
    assert first.labels.shape == (2, 3, PILOT + 64)  # whole chunks
    assert np.array_equal(first.labels, second.labels)
    assert first.name == "torch bfloat16, cpu"
    assert (first.radius == second.radius).all() and first.radius.max() > 0
    # Other scales and images have other noise: were it shared, their labels would be alike on no account but chance.
    assert not np.array_equal(first.labels[0], first.labels[1])


def test_the_table_compares_each_with_the_first():
    def variant(name: str, label: int, radius: float) -> Variant:
        labels = np.zeros((1, 1, 4), dtype=np.int64)
        labels[0, 0, 0] = label
        return Variant(name=name, labels=labels, radius=np.array([radius]), right=np.array([True]), seconds=2.0)

    variants = [variant("a", 0, 0.5), variant("b", 1, 0.4)]
    assert (differing(variants), differing(variants[:1]), differing([*variants, variants[1]])) == (1, 0, 1)
    said = check_text("digits", 1, variants)
    assert said.startswith("digits: 1 of 4 draws (pilots' among them) get another class from b than from a; 1 test")
    rows = table(variants).splitlines()
    assert rows[2] == "| a | 0.0000% | 0.00000 | 0.00000 | 0.5000 | +0.00% | 2 |"
    assert rows[3] == "| b | 25.0000% | 0.10000 | 0.10000 | 0.4000 | -20.00% | 2 |"
