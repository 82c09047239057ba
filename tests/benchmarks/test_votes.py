"""benchmarks.votes: the service replayed from a file's votes, shares, and votes drawn, gone on with and undenoised."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="draws what the tables are made of (pip install 'certify[torch]')")
pytest.importorskip("sklearn", reason="the digits come with scikit-learn (pip install 'certify[train]')")

from benchmarks.pictures import rows_of
from benchmarks.votes import Undenoised, adaptive, choose, majorities, votes_of
from certify.models.bundle import find_bundle
from certify.models.datasets import open_dataset
from certify.models.noise import GENERATOR
from certify.models.runtime import load_pipeline, options_for
from certify.service.backends.embedded import EmbeddedBackend
from certify.service.core import Cascade, Certifier
from certify.service.errors import DataError
from certify.service.research.threshold_choice import CANDIDATES
from certify.service.research.votes_file import VotesFile

CHUNK, CHUNKS = 32, 31


def file_of(shares: list[list[list[float]]], labels: list[int]) -> VotesFile:
    """shares[i][k]: class shares of image i at sigma (.25, .5)[k]; each chunk is drawn by them."""
    random = np.random.default_rng(0)
    n = len(shares)
    pilot = np.array([[random.multinomial(128, row) for row in image] for image in shares])
    votes = np.array([[random.multinomial(CHUNK, row, size=CHUNKS) for row in image] for image in shares])
    return VotesFile(
        sigmas=np.array([0.25, 0.5]), thresholds=np.array([0.5, 0.5]), final="plurality", alpha=1e-3, chunk=CHUNK,
        grain=64, idx=np.arange(n), labels=np.array(labels), plain=np.array(labels), pilot=pilot,
        votes=votes.astype(np.int32), label=pilot.sum(axis=1).argmax(axis=1), planned=np.zeros(n, np.int64),
        weights=np.full((n, 2), 0.5), data="drawn", split="tune", data_digest="", bundle_digest="", runtime="", seed=1,
    )  # fmt: skip


def test_the_replay_is_the_services_sampler_on_draws_that_it_uses_once() -> None:
    votes = file_of([[[0.99, 0.01, 0.0], [0.9, 0.05, 0.05]], [[0.4, 0.3, 0.3]] * 2], [0, 1])
    curve = adaptive(votes, 992, [0.5, 0.5], "plurality")
    assert curve.samples is not None and curve.samples.max() <= 992
    with pytest.raises(DataError, match="samples: expected at most 992, as the file has at each scale, got 1024"):
        adaptive(votes, 1024, [0.5, 0.5], "plurality")
    assert curve.radius[0] > 0.25 and curve.correct.tolist() == [True, False]

    used: list[tuple[int, int]] = []
    certifier = Certifier(Cascade.of([0.25, 0.5]), 3, samples=992, chunk=CHUNK, grain=64)
    while (query := certifier.next()) is not None:
        first = query.first + (992 - certifier.pilot if query.purpose == "pilot" else 0)
        used += [(query.level, chunk) for chunk in range(first // CHUNK, (first + query.count) // CHUNK)]
        drawn = votes.votes[0, query.level, first // CHUNK : (first + query.count) // CHUNK]
        certifier.observe(query, drawn.sum(axis=0).tolist())
    assert len(used) == len(set(used))  # no draw is a pilot's and an estimate's
    assert (certifier.result().radius, certifier.result().samples_used) == (curve.radius[0], curve.samples[0])


def test_a_majority_is_more_than_half() -> None:
    votes = file_of([[[1, 0, 0]] * 2, [[0, 1, 0]] * 2, [[1 / 3] * 3] * 2, [[0, 1, 0], [1, 0, 0]]], [0, 0, 0, 1])
    assert majorities(votes, 0) == (0.5, 0.25, 0.25)
    assert majorities(votes, 1) == (0.25, 0.5, 0.25)
    half = np.zeros_like(votes.votes)
    half[..., 0], half[..., 1] = CHUNK // 2, CHUNK // 2
    object.__setattr__(votes, "votes", half)
    assert majorities(votes, 0) == (0.0, 0.0, 1.0)


def test_thresholds_are_chosen_among_the_candidates_and_keep_the_accuracy() -> None:
    # The coarse scale is wrong of half of the images: only a threshold near 1 keeps it from deciding.
    votes = file_of([[[0.95, 0.05, 0], [0.95, 0.05, 0]], [[0.95, 0.05, 0], [0.3, 0.7, 0]]] * 10, [0] * 20)
    thresholds, acr = choose(votes)
    assert thresholds[0] == 0.5 and thresholds[1] in CANDIDATES and thresholds[1] >= 0.75
    assert 0 < acr < 0.5


def test_a_scale_judged_on_more_images_is_one_row_of_them_all() -> None:
    first, more = ([[share, 1 - share, 0.0]] * 2 for share in (0.95, 0.05))
    both, finest = file_of([first] * 4, [0] * 4), file_of([more] * 6, [0] * 6)
    finest = dataclasses.replace(
        finest, sigmas=finest.sigmas[:1], thresholds=finest.thresholds[:1], pilot=finest.pilot[:, :1],
        votes=finest.votes[:, :1], weights=np.ones((6, 1)),
    )  # fmt: skip
    rows = {row.name: row for row in rows_of(both, (0.5, 0.5), finest)}
    for final in ("threshold", "plurality"):
        fine, coarse = rows[f"sigma 0.25 alone, {final}"], rows[f"sigma 0.5 alone, {final}"]
        assert (len(fine), fine.accuracy(0.0), fine.wrong) == (10, 0.4, 0.6)
        assert (len(coarse), coarse.accuracy(0.0)) == (4, 1.0)
        assert fine.samples is not None and coarse.samples is not None and fine.samples[0] == coarse.samples[0]


@pytest.mark.slow
def test_votes_of_one_scale_are_of_the_images_that_are_asked_for(tmp_path: Path) -> None:
    data = open_dataset("digits")
    votes = votes_of(data, "digits", tmp_path / "votes.npz", 256, first=1, limit=3, sigmas=(0.12,))
    assert votes.votes.shape == (2, 1, 8, 10) and votes.sigmas.tolist() == [0.12]
    assert votes.idx.tolist() == sorted(data.idx[1:3])


@pytest.mark.slow
def test_votes_are_drawn_once_and_more_images_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, path = open_dataset("digits"), tmp_path / "votes.npz"
    one = votes_of(data, "digits", path, 256, limit=1)
    assert one.votes.shape == (1, 3, 8, 10) and one.samples == 256
    two = votes_of(data, "digits", path, 256, limit=2)
    assert two.idx.tolist() == sorted(data.idx[:2])
    assert np.array_equal(two.votes[two.idx == one.idx[0]], one.votes)

    async def refuse(self: object, *asked: object, **named: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(EmbeddedBackend, "chunk_votes", refuse)
    assert np.array_equal(votes_of(data, "digits", path, 256, limit=2).votes, two.votes)
    assert votes_of(data, "digits", path, 256, limit=1).idx.tolist() == one.idx.tolist()  # the file has two


@pytest.mark.slow
def test_without_the_denoiser_it_is_the_plain_classifier_that_votes(tmp_path: Path) -> None:
    data = open_dataset("digits")
    denoised = votes_of(data, "digits", tmp_path / "a.npz", 256, limit=2)
    bare = votes_of(data, "digits", tmp_path / "b.npz", 256, limit=2, backend=Undenoised)
    assert bare.bundle_digest == denoised.bundle_digest and not np.array_equal(bare.votes, denoised.votes)
    engine = load_pipeline(find_bundle("digits"), options_for()).engine
    assert bare.runtime == f"{GENERATOR} cpu {engine.name} {engine.dtype}"
    truth = bare.counts()[np.arange(2)[:, None], np.arange(3), bare.labels[:, None]]
    assert truth[:, 0].min() > 128 and truth[:, 0].sum() > truth[:, 2].sum()  # right at .12, worse at .5
