"""A file of votes comes back as it was, and is refused by field when it is not one."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from certify.service.errors import DataError
from certify.service.research.votes_file import OLDER_GRAIN, VotesFile, join_votes, load_votes, save_votes


@pytest.fixture
def votes() -> VotesFile:
    random = np.random.default_rng(0)
    even = [1 / 3] * 3
    return VotesFile(
        sigmas=np.array([0.25, 0.5]),
        thresholds=np.array([0.5, 0.6]),
        final="plurality",
        alpha=1e-3,
        chunk=32,
        grain=64,
        idx=np.array([7, 3]),
        labels=np.array([0, 2]),
        plain=np.array([0, 1]),
        pilot=random.multinomial(64, even, size=(2, 2)),
        votes=random.multinomial(32, even, size=(2, 2, 5)).astype(np.int32),
        label=np.array([0, 2]),
        planned=np.array([1, 0]),
        weights=np.array([[0.1, 0.9], [0.9, 0.1]]),
        data="drawn",
        split="all",
        data_digest="sha256:0",
        bundle_digest="sha256:1",
        runtime="test",
        seed=5,
    )


def test_it_comes_back_as_it_was(votes: VotesFile, tmp_path: Path) -> None:
    save_votes(votes, tmp_path / "deep" / "votes.npz")
    back = load_votes(tmp_path / "deep" / "votes.npz")
    for field in fields(VotesFile):
        ours, theirs = getattr(votes, field.name), getattr(back, field.name)
        assert type(ours) is type(theirs)
        assert np.array_equal(ours, theirs)
        assert getattr(ours, "dtype", None) == getattr(theirs, "dtype", None)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["votes.npz"]


def test_a_file_of_before_the_grain_was_kept_is_read_with_that_of_its_time(votes: VotesFile, tmp_path: Path) -> None:
    path = tmp_path / "older.npz"
    save_votes(replace(votes, grain=128), path)
    with np.load(path) as stored:
        kept = {name: stored[name] for name in stored if name != "grain"}
    np.savez(path, **kept)
    assert load_votes(path).grain == OLDER_GRAIN
    del kept["chunk"]
    np.savez(path, **kept)
    with pytest.raises(DataError, match="there is no chunk"):
        load_votes(path)


def test_counts_are_of_the_first_samples(votes: VotesFile) -> None:
    assert votes.samples == 160 and votes.pilot_samples == 64
    assert (votes.counts() == votes.votes.sum(axis=2)).all()
    assert (votes.counts(64) == votes.votes[:, :, 0] + votes.votes[:, :, 1]).all()
    for samples in (0, 33, 192):
        with pytest.raises(DataError, match=f"multiple of 32 up to 160, got {samples}"):
            votes.counts(samples)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0])}, r"labels: expected shape \(2,\), got \(1,\)"),
        ({"weights": np.ones((2, 3))}, "weights: expected shape"),
        ({"sigmas": np.array([0.5, 0.25])}, "sigmas: expected ascending"),
        ({"votes": np.ones((2, 2, 5, 3), np.int32)}, "votes: expected 32 in each chunk"),
        ({"votes": np.ones((2, 2, 5), np.int32)}, "votes: expected shape"),
        ({"grain": 48}, "grain: expected a multiple of chunk, 32, got 48"),
        ({"idx": np.array([3, 3])}, "idx: expected each image once"),
    ],
)
def test_what_does_not_fit_is_refused_by_field(votes: VotesFile, change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(votes, **change)  # type: ignore[arg-type]


def test_another_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    np.savez(tmp_path / "other.npz", sigmas=np.array([1.0]))
    for name, message in (
        ("broken", "expected a file of votes"),
        ("other", "there is no "),
        ("absent", "No such file"),
    ):
        with pytest.raises(DataError, match=f"{name}.npz: .*{message}"):
            load_votes(tmp_path / f"{name}.npz")


def test_a_file_that_is_cut_off_or_damaged_is_refused_wherever_it_ends(votes: VotesFile, tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    save_votes(votes, path)
    whole = path.read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="v.npz: expected a file of votes"):
            load_votes(path)
    kept = {field.name: np.asarray(getattr(votes, field.name)) for field in fields(VotesFile)}
    for name in ("sigmas", "pilot", "votes", "chunk"):
        np.savez(path, **{**kept, name: np.array("text")})  # type: ignore[arg-type]  # stubs take keywords for allow_pickle
        with pytest.raises(DataError, match="v.npz: "):
            load_votes(path)


def test_shards_that_cannot_be_are_refused(votes: VotesFile) -> None:
    for wrong in ([[0, 2, 4]], [[3, 2, 4]]):
        with pytest.raises(DataError, match=r"shards: expected \(i, n, images\) with 1 <= i <= n"):
            replace(votes, shards=np.array(wrong))


def test_shards_joined_are_the_whole(votes: VotesFile, tmp_path: Path) -> None:
    for position, name in enumerate(("a", "b")):
        save_votes(votes.part([position]), tmp_path / f"{name}.npz")
    joined = load_votes(tmp_path / "a.npz", tmp_path / "b.npz")
    whole = votes.part([1, 0])  # images 3 and 7
    for field in fields(VotesFile):
        assert np.array_equal(getattr(joined, field.name), getattr(whole, field.name))
    with pytest.raises(DataError, match="a.npz, .*a.npz: idx: expected each image once"):
        load_votes(tmp_path / "a.npz", tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, "seed: expected votes of one run, got 5 and 6"),
        ({"thresholds": np.array([0.5, 0.7])}, "thresholds: expected votes of one run"),
        ({"data_digest": "sha256:9"}, "data_digest: expected votes of one run"),
        ({"votes": np.full((1, 2, 4, 3), [32, 0, 0], np.int32)}, "votes: expected votes of one run, of the same shape"),
    ],
)
def test_votes_of_two_runs_are_not_joined(votes: VotesFile, change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        join_votes([votes.part([0]), replace(votes.part([1]), **change)])  # type: ignore[arg-type]
