"""Curves of a file of votes: what each says of itself in fields, and that every policy is certified by its own rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from certify.service.core import Cascade, PilotPlan
from certify.service.research import policies
from certify.service.research.curves import curves_of_tables, curves_of_votes, plans_of
from certify.service.research.policies import POLICIES, certify
from certify.service.research.tables import Row, open_table, read_table
from certify.service.research.votes_file import VotesFile

ALPHA = 1e-3


@pytest.fixture
def votes() -> VotesFile:
    """12 images, two scales, 320 draws of three classes, of which the first is the true one."""
    random = np.random.default_rng(0)
    shares = random.dirichlet([12, 1, 1], size=(12, 2))
    pilot = np.array([[random.multinomial(128, row) for row in image] for image in shares])
    drawn = np.array([[random.multinomial(32, row, size=10) for row in image] for image in shares])
    return VotesFile(
        sigmas=np.array([0.25, 0.5]), thresholds=np.array([0.5, 0.6]), final="plurality", alpha=ALPHA, chunk=32,
        grain=64, idx=np.arange(12), labels=np.zeros(12, np.int64), plain=np.zeros(12, np.int64), pilot=pilot,
        votes=drawn.astype(np.int32), label=np.zeros(12, np.int64), planned=np.zeros(12, np.int64),
        weights=np.full((12, 2), 0.5), data="drawn", split="all", data_digest="", bundle_digest="", runtime="", seed=1,
    )  # fmt: skip


def test_each_curve_says_its_policy_scale_and_rule(votes: VotesFile) -> None:
    found = [(c.policy, c.sigma, c.final) for c in curves_of_votes(votes)]
    singles = [("single", sigma, final) for sigma in (0.25, 0.5) for final in ("threshold", "plurality")]
    assert found == [*singles, *((policy, None, "plurality") for policy in POLICIES if policy != "single")]
    anew = curves_of_votes(votes, thresholds=[0.5, 0.5], final="threshold", singles=False)
    assert [(c.policy, c.final) for c in anew] == [(p, "threshold") for p in POLICIES if p != "single"]


def test_a_curves_outcomes_are_its_policys_on_each_image(votes: VotesFile) -> None:
    cascade = Cascade.of([0.25, 0.5], [0.5, 0.6], "plurality")
    for curve in curves_of_votes(votes, singles=False):
        for i, plan in enumerate(plans_of(votes, cascade)):
            outcome = certify(curve.policy, votes.counts()[i], votes.pilot[i], plan, cascade, ALPHA)
            assert curve.radius[i] == outcome.radius and curve.correct[i] == (outcome.label == 0)
            assert curve.samples is not None and curve.samples[i] == outcome.visited * (128 + 320)
    assert votes.pilot_samples == 128


def test_certify_asks_the_policy_that_is_named(votes: VotesFile) -> None:
    counts, pilot, plan = votes.counts()[0], votes.pilot[0], PilotPlan(0, 0, (0.5, 0.5))
    cascade = Cascade.of([0.25, 0.5], 0.5, "threshold")
    asked = {policy: certify(policy, counts, pilot, plan, cascade, ALPHA) for policy in POLICIES if policy != "single"}
    assert asked["best"] == policies.best(counts, 0, cascade, ALPHA, (0.5, 0.5))
    assert asked["first"] == policies.first(counts, 0, cascade, ALPHA, (0.5, 0.5))
    assert asked["reference"] == policies.reference(counts, pilot, cascade, ALPHA)
    assert asked["max-radius"] == policies.max_radius(counts, 0, (0.25, 0.5), ALPHA, (0.5, 0.5))
    alone = Cascade.of([0.5], 0.5, "plurality")
    of_one = certify("single", counts[1:], pilot[1:], plan, alone, ALPHA)
    assert of_one == policies.single(counts[1], pilot[1], 0.5, ALPHA, "plurality")


def test_a_tables_curve_has_the_policy_of_its_rows(tmp_path: Path) -> None:
    row = Row(
        idx=1, label=0, predict=0, radius=0.5, seconds=1.0, sigma=0.5, plain=0, outcome="certified", reason=None,
        samples=512, policy="first", run="a",
    )  # fmt: skip
    with open_table(tmp_path / "t.tsv", "a", {}) as table:
        table.append(row)
        table.append(replace(row, idx=2, predict=1))
    (curve,) = curves_of_tables([read_table(tmp_path / "t.tsv")])
    assert (curve.name, curve.policy, curve.sigma, curve.final) == ("t", "first", None, None)
    assert curve.acr == 0.25 and curve.wrong == 0.5
