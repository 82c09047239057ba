"""service.research.threshold_choice: candidates are judged as they would be served, and a floor is kept or refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from certify.service.errors import DataError
from certify.service.research import threshold_choice
from certify.service.research.threshold_choice import (
    CANDIDATES,
    FLOOR_SLACK,
    NEVER,
    TIE,
    Choice,
    best_curve,
    finest_accuracy,
    tune,
)
from certify.service.research.votes_file import VotesFile, load_votes

# Votes of 120 images drawn from a population like CIFAR-10's; its own plan is for thresholds .5, .5, .5.
VOTES = load_votes(Path(__file__).parents[1] / "cases" / "tune" / "votes.npz")


FEW = VOTES.part(range(24))  # enough where it only matters that two choices agree


@pytest.fixture(scope="module")
def choice() -> Choice:
    """Of all candidates, on all images, as `certify tune --min-accuracy 0.62` makes it."""
    return tune(VOTES, target=None, shared=False, final="plurality", min_accuracy=0.62)


def chosen(votes: VotesFile, **options: object) -> tuple[float, ...]:
    choice = tune(votes, **{"target": None, "shared": False, "final": "plurality", **options})  # type: ignore[arg-type]
    return choice.candidates[choice.chosen]


@pytest.mark.parametrize(
    ("coarse", "accuracy", "acr"),
    [(0.5, 0.383, 0.2032), (0.7, 0.567, 0.2083), (0.8, 0.650, 0.2114), (0.9, 0.675, 0.1986), (0.99, 0.658, 0.1884)],
)
def test_a_candidate_is_worth_what_the_service_would_certify_with_it(coarse, accuracy, acr):
    curve = best_curve(VOTES, (0.5, coarse, coarse), "plurality")
    assert (round(curve.accuracy(0.0), 3), round(curve.acr, 4)) == (accuracy, acr)


def test_a_higher_coarse_threshold_is_seen_to_repair_a_wrong_coarse_label(choice):
    curve = choice.curves[choice.chosen]
    assert choice.candidates[choice.chosen] == (0.5, 0.8, 0.8)
    assert (round(curve.accuracy(0.0), 3), round(curve.acr, 4)) == (0.650, 0.2114)


def test_every_candidate_is_judged_and_a_near_tie_goes_to_the_more_accurate(choice):
    assert len(choice.candidates) == len(CANDIDATES) ** 2
    for index, allowed in ((choice.chosen, 0.62), (choice.unconstrained, 0.0)):
        curves = [curve for curve in choice.curves if curve.accuracy(0.0) >= allowed]
        near = [curve for curve in curves if curve.acr >= (1 - TIE) * max(each.acr for each in curves)]
        assert choice.curves[index] in near
        assert choice.curves[index].accuracy(0.0) == max(curve.accuracy(0.0) for curve in near)


def test_the_recorded_plan_has_no_part_in_the_choice():
    """The same votes with labels, paths, weights, thresholds and final of another plan."""
    images, scales = FEW.weights.shape
    other = dataclasses.replace(
        FEW,
        label=(FEW.label + 1) % 10,
        planned=np.zeros_like(FEW.planned),
        weights=np.full((images, scales), 1 / scales),
        thresholds=np.array([0.9, 0.9, 0.9]),
        final="threshold",
    )
    assert chosen(other) == chosen(FEW)


def test_a_floor_that_cannot_be_kept_is_an_error_that_names_the_best_reachable():
    best = max(tune(VOTES, target=None, shared=True, final="plurality").curves, key=lambda c: c.accuracy(0.0))
    with pytest.raises(DataError, match=r"min-accuracy: expected at most 0\.\d+, .*got 0\.99") as refused:
        chosen(VOTES, min_accuracy=0.99, shared=True)
    assert f"{best.accuracy(0.0):.4g}" in str(refused.value)


def test_the_default_floor_is_the_finest_scale_less_two_in_a_hundred():
    choice = tune(VOTES, target=None, shared=True, final="plurality")
    assert round(finest_accuracy(VOTES, "plurality"), 3) == 0.658
    assert choice.floor == finest_accuracy(VOTES, "plurality") - FLOOR_SLACK
    assert choice.kept and choice.curves[choice.chosen].accuracy(0.0) >= choice.floor


def test_a_default_floor_that_nobody_keeps_gives_the_most_accurate_and_says_so(monkeypatch):
    monkeypatch.setattr(threshold_choice, "FLOOR_SLACK", -1.0)
    choice = tune(VOTES, target=None, shared=True, final="plurality")
    assert not choice.kept
    assert choice.curves[choice.chosen].accuracy(0.0) == max(curve.accuracy(0.0) for curve in choice.curves)


def test_with_many_scales_one_threshold_is_changed_at_a_time_and_never_for_the_worse(monkeypatch):
    monkeypatch.setattr(threshold_choice, "EXHAUSTIVE", 100)
    monkeypatch.setattr(threshold_choice, "TIE", 0.0)
    seen: list[tuple[int, int]] = []
    climbed = tune(
        FEW, target=None, shared=False, final="plurality", min_accuracy=0.0,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    shared = tune(FEW, target=None, shared=True, final="plurality", min_accuracy=0.0)
    assert climbed.curves[climbed.chosen].acr >= shared.curves[shared.chosen].acr
    assert len(climbed.candidates) < len(CANDIDATES) ** 2 and len(seen) == len(climbed.candidates)


def test_a_radius_can_be_the_target():
    choice = tune(VOTES, target=0.5, shared=True, final="plurality", min_accuracy=0.0)
    reached = max(curve.accuracy(0.5) for curve in choice.curves)
    assert choice.curves[choice.chosen].accuracy(0.5) >= (1 - TIE) * reached > 0


def test_a_coarse_scale_that_says_one_class_of_nearly_all_noise_can_be_left_out():
    """At a threshold of .99 it cannot be proved not to decide, so it blocks what the finest scale would certify."""
    votes, pilot = FEW.votes.copy(), FEW.pilot.copy()
    for image, truth in enumerate(FEW.labels):
        votes[image, -1], pilot[image, -1] = 0, 0
        wrong = (truth + 1) % 10
        votes[image, -1, :, wrong], pilot[image, -1, wrong] = 32, 128
        votes[image, -1, ::2, wrong], votes[image, -1, ::2, truth] = 31, 1  # a share of .984
    constant = dataclasses.replace(FEW, votes=votes, pilot=pilot)
    blocked, free = (best_curve(constant, (0.5, 0.5, top), "plurality").accuracy(0.0) for top in (0.99, NEVER))
    assert blocked < free
    assert chosen(constant)[-1] >= 0.999
