"""Votes, policies, curves and choices of other noises than Gaussian."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from certify.models.noises import laplace_b
from certify.service.answering.schemas import CertifyFields
from certify.service.backends.base import cascade_of
from certify.service.backends.fake import FAKE_INFO, FakeBackend
from certify.service.core import Noise, clopper_pearson_lower, clopper_pearson_upper, plan_from_pilot
from certify.service.errors import DataError
from certify.service.research.certifiers import LocalCertifier
from certify.service.research.curves import curves_of_votes, load
from certify.service.research.figures import draw
from certify.service.research.policies import POLICIES, max_radius, reference, single
from certify.service.research.tables import Row, open_table
from certify.service.research.threshold_choice import finest_accuracy, tune
from certify.service.research.votes_file import VotesFile, join_votes, load_votes, save_arrays, save_votes
from certify.service.research.votes_file_parts import open_votes
from certify.service.settings import Settings
from tests import pictures

ALPHA = 0.001
LAPLACE = Noise("laplace", float(laplace_b(0.5)))
KINDS = ("laplace", "uniform")


def quantile(p: float) -> float:
    """Of Laplace noise with b = 1."""
    return float(np.log(2 * p) if p < 0.5 else -np.log(2 * (1 - p)))


def recorded(noise: tuple[str, ...] = KINDS, norm: str = "l1", images: int = 12) -> VotesFile:
    """Sure of class 0 at the fine scale and less so at the coarse one."""
    rng = np.random.default_rng(0)
    p = np.array([[0.95, 0.03, 0.02], [0.7, 0.2, 0.1]])
    pilot = np.array([[rng.multinomial(96, row) for row in p] for _ in range(images)])
    votes = np.array([[rng.multinomial(32, row, size=30) for row in p] for _ in range(images)]).astype(np.int32)
    cascade = cascade_of([0.25, 0.5], [0.5, 0.6], "plurality", noise)
    plans = [plan_from_pilot(cascade, each.tolist(), ALPHA, 960) for each in pilot]
    return VotesFile(
        sigmas=np.array([0.25, 0.5]), thresholds=np.array([0.5, 0.6]), final="plurality", alpha=ALPHA,
        chunk=32, grain=32, idx=np.arange(images), labels=np.zeros(images, dtype=np.int64),
        plain=np.zeros(images, dtype=np.int64), pilot=pilot, votes=votes,
        label=np.array([plan.label for plan in plans]), planned=np.array([plan.level for plan in plans]),
        weights=np.array([plan.weights for plan in plans]), data="drawn", split="all", data_digest="sha256:0",
        bundle_digest="sha256:1", runtime="test", seed=5, noise=np.array(noise, dtype=np.str_), norm=norm,
    )  # fmt: skip


def test_a_file_keeps_its_noise_and_norm(tmp_path):
    save_votes(recorded(), tmp_path / "votes.npz")
    back = load_votes(tmp_path / "votes.npz")
    assert (tuple(back.noise.tolist()), back.norm) == (KINDS, "l1")
    assert back.cascade() == cascade_of([0.25, 0.5], [0.5, 0.6], "plurality", KINDS)
    with np.load(tmp_path / "votes.npz") as stored:
        assert "sigmas" not in stored  # a version that knows no other noise finds no scales in it
    assert back.alone(1, "threshold") == cascade_of([0.5], 0.5, "threshold", ["uniform"])


def test_a_file_of_before_there_was_other_noise_is_gaussian(tmp_path):
    ours = recorded((), "l2")
    kept = {name: np.asarray(value) for name, value in vars(ours).items() if name not in ("noise", "norm")}
    save_arrays(tmp_path / "old.npz", kept)
    old = load_votes(tmp_path / "old.npz")
    assert (old.noise.size, old.norm, old.cascade().norm) == (0, "l2", "l2")


@pytest.mark.parametrize(
    ("noise", "norm", "message"),
    [
        (("laplace",), "l1", "noise: expected 2 kinds"),
        (("laplace", "cauchy"), "l1", "noise: expected one of"),
        (KINDS, "l2", "norm: expected l1, which this noise certifies, got 'l2'"),
        ((), "l1", "norm: expected l2"),
        (("splitting", "splitting"), "l1", "noise: expected noise that is drawn"),
    ],
)
def test_noise_that_does_not_fit_is_refused(noise, norm, message):
    with pytest.raises(DataError, match=message):
        replace(recorded(), noise=np.array(noise, dtype=np.str_), norm=norm)


def test_shards_of_other_noise_are_not_of_one_run():
    other = replace(recorded(("uniform", "laplace")), idx=np.arange(12, 24))
    with pytest.raises(DataError, match="noise: expected votes of one run"):
        join_votes([recorded(), other])


def test_single_by_hand():
    row = np.array([900, 80, 20])
    low = clopper_pearson_lower(900, 1000, ALPHA)
    sure = single(row, row, 0.5, ALPHA, "threshold", noise=LAPLACE)
    assert sure.radius == pytest.approx(LAPLACE.scale * quantile(low), abs=2e-6)


def test_reference_by_hand():
    """The coarse level passes, the fine one decides: the smaller of the two terms, each in its own noise."""
    counts = np.array([[1980, 15, 5], [900, 800, 300]])
    cascade = cascade_of([0.25, 0.5], 0.5, "threshold", ["uniform", "laplace"])
    outcome = reference(counts, counts, cascade, ALPHA)
    own = cascade.scales[0] * (clopper_pearson_lower(1980, 2000, ALPHA / 2) - 0.5)
    shield = -LAPLACE.scale * quantile(clopper_pearson_upper(800, 2000, ALPHA))
    assert outcome.label == 0
    assert outcome.radius == pytest.approx(min(own, shield), abs=2e-6)


def test_max_radius_by_hand():
    counts = np.array([[990, 10, 0], [700, 250, 50]])
    cascade = cascade_of([0.25, 0.5], 0.5, "plurality", ["uniform", "laplace"])
    outcome = max_radius(counts, 0, (0.25, 0.5), ALPHA, [0.5, 0.5], noise=cascade.noises)
    half, (wide, b) = ALPHA / 2, cascade.scales
    own = [wide * (clopper_pearson_lower(990, 1000, half / 2) - 0.5)]
    own.append(b * quantile(clopper_pearson_lower(700, 1000, half / 2)))
    rivals = [wide * (clopper_pearson_upper(10, 1000, half) - 0.5)]
    rivals.append(b * quantile(clopper_pearson_upper(250, 1000, half)))
    assert outcome.radius == pytest.approx((max(own) - max(rivals)) / 2, abs=2e-6)


def test_every_policys_curve_is_in_l1_and_its_picture_says_so(tmp_path):
    curves = curves_of_votes(recorded())
    assert {curve.policy for curve in curves} == set(POLICIES)
    assert {curve.norm for curve in curves} == {"l1"}
    assert all(curve.acr > 0 for curve in curves)
    pytest.importorskip("matplotlib")
    _, svg = draw(curves, tmp_path / "curve")
    assert svg.exists()


def test_gaussian_votes_are_judged_in_l2():
    assert {curve.norm for curve in curves_of_votes(recorded((), "l2"))} == {"l2"}


def test_thresholds_are_chosen_for_the_noise_at_hand():
    votes = recorded()
    choice = tune(votes, target=None, shared=True, final="plurality")
    best = choice.curves[choice.chosen]
    assert best.norm == "l1"
    assert 0.0 < best.acr < votes.cascade().scales[1] / 2  # where every vote would be for the label
    assert finest_accuracy(votes, "plurality") == 1.0


@pytest.mark.parametrize("kinds", [("laplace",) * 3, ("gaussian", "uniform", "laplace")])
def test_votes_of_a_bundle_of_other_noise_are_kept_and_certified_again(kinds, tmp_path):
    backend = FakeBackend(replace(FAKE_INFO, noise=kinds, norm="l1"))
    path, fields = tmp_path / "votes.npz", CertifyFields(samples=640)
    facts = {"data": "drawn", "split": "all", "data_digest": "sha256:0"}

    def recorder(parts, policy="best"):
        return LocalCertifier(backend, Settings(), fields, policy=policy, seed=3, votes=parts)

    with open_votes(path, backend.info(), {**facts, **recorder(None).votes_facts()}) as parts:
        asked = recorder(parts)
        verdicts = [asyncio.run(asked.certify(i, 0, pictures.png(seed=i))) for i in range(3)]
        parts.finish()
    votes = load_votes(path)
    assert (tuple(votes.noise.tolist()), votes.norm) == (kinds, "l1")
    (best,) = (curve for curve in curves_of_votes(votes) if curve.policy == "best")
    assert best.radius.tolist() == [verdict.radius for verdict in verdicts]
    with open_votes(path, backend.info(), {**facts, **recorder(None).votes_facts()}) as parts:  # and goes on
        assert parts.get(1) is not None
    other = LocalCertifier(FakeBackend(), Settings(), fields, policy="best", seed=3)
    with pytest.raises(DataError, match="name another --votes"):
        with open_votes(path, FAKE_INFO, {**facts, **other.votes_facts(), "noise": []}):
            pass
    reference_row = asyncio.run(recorder(None, "reference").certify(0, 0, pictures.png()))
    assert reference_row.outcome in ("certified", "abstained")


def test_splitting_is_asked_as_it_is_served_and_has_no_other_policy():
    backend = FakeBackend(replace(FAKE_INFO, noise=("splitting",) * 3, norm="l1"))
    served = LocalCertifier(backend, Settings(), CertifyFields(), policy="best", seed=3)
    again = LocalCertifier(backend, Settings(), CertifyFields(), policy="best", seed=4)
    rows = [asyncio.run(each.certify(0, 0, pictures.png())) for each in (served, again)]
    assert rows[0] == rows[1]
    assert served.facts()["radius_norm"] == "l1"
    for policy in ("first", "max-radius"):
        with pytest.raises(DataError, match="expected --policy best without --votes, since splitting"):
            LocalCertifier(backend, Settings(), CertifyFields(), policy=policy, seed=3)


@pytest.mark.parametrize(("facts", "norm"), [({"radius_norm": "l1"}, "l1"), ({}, "l2")])
def test_a_tables_norm_is_what_the_facts_beside_it_say(facts, norm, tmp_path: Path):
    row = Row(
        idx=0, label=0, predict=0, radius=0.25, seconds=0.1, sigma=0.5, plain=0, outcome="certified", reason=None,
        samples=640, policy="best", run="0" * 12,
    )  # fmt: skip
    with open_table(tmp_path / "rows.tsv", "0" * 12, facts) as table:
        table.append(row)
    (curve,) = load([tmp_path / "rows.tsv"])
    assert curve.norm == norm
