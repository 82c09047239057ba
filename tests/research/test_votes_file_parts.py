"""A file of votes while it is filled: one writer, pieces told from parts, and nothing of an earlier shard lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certify.service.backends.fake import FAKE_INFO
from certify.service.core import PilotPlan
from certify.service.errors import DataError
from certify.service.research.fixed_budget import Drawn
from certify.service.research.votes_file import load_votes
from certify.service.research.votes_file_parts import open_votes
from tests.servers import ROOT

FACTS: dict[str, Any] = {
    "data": "drawn", "split": "all", "data_digest": "sha256:0", "bundle_digest": "sha256:1", "runtime": "r",
    "sigmas": [0.25, 0.5, 1.0], "thresholds": [0.5, 0.5, 0.5], "final": "plurality", "alpha": 1e-3, "samples": 96,
    "seed": 5,
}  # fmt: skip


def drawn(idx: int) -> Drawn:
    random = np.random.default_rng(idx)
    even = [0.1] * 10
    votes = random.multinomial(32, even, size=(3, 3))
    return Drawn(1, random.multinomial(128, even, size=3), votes, PilotPlan(1, 0, (0.2, 0.3, 0.5)))


def add(path: Path, *images: int, finish: bool = True) -> None:
    with open_votes(path, FAKE_INFO, FACTS) as parts:
        for idx in images:
            parts.put(idx, 1, drawn(idx))
        if finish:
            assert parts.finish() >= len(images)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_shards_that_name_one_file_after_another_all_end_up_in_it(tmp_path: Path) -> None:
    add(tmp_path / "v.npz", 4, 2)
    add(tmp_path / "v.npz", 3)
    votes = load_votes(tmp_path / "v.npz")
    assert votes.idx.tolist() == [2, 3, 4]
    assert all((votes.votes[at] == drawn(idx).votes).all() for at, idx in enumerate(votes.idx.tolist()))
    assert names(tmp_path) == ["v.npz"]


def test_a_second_writer_is_refused_and_the_first_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    another = f"""
from pathlib import Path
from tests.research.test_votes_file_parts import add
add(Path({str(path)!r}), 9)
"""
    with open_votes(path, FAKE_INFO, FACTS) as parts:
        done = subprocess.run([sys.executable, "-c", another], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode and "v.npz: expected votes that nobody writes, and another process does" in done.stderr
        parts.put(1, 1, drawn(1))
        parts.finish()
        with pytest.raises(DataError, match="another process does"):  # until the very end
            (tmp_path / "v.npz.parts").mkdir()
            with open_votes(path, FAKE_INFO, FACTS), open_votes(path, FAKE_INFO, FACTS):
                raise AssertionError
    add(path, 9)
    assert load_votes(path).idx.tolist() == [1, 9]


def test_an_image_that_was_refused_leaves_no_folder_behind(tmp_path: Path) -> None:
    add(tmp_path / "v.npz", 1)
    with pytest.raises(DataError, match="seed: expected 6, got 5"):
        with open_votes(tmp_path / "v.npz", FAKE_INFO, {**FACTS, "seed": 6}):
            raise AssertionError
    assert names(tmp_path) == ["v.npz"]


def test_a_part_that_is_only_a_piece_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    add(path, 1, 2, finish=False)
    part = tmp_path / "v.npz.parts" / "1.npz"
    whole = part.read_bytes()
    for size in {0, 1, 30, len(whole) // 2, len(whole) - 1}:
        part.write_bytes(whole[:size])
        with open_votes(path, FAKE_INFO, FACTS) as parts:
            assert parts.get(1) is None and parts.get(2) is not None and not part.exists()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for content in (bytes(flipped), whole[: len(whole) // 2]):
        part.write_bytes(content)
        with open_votes(path, FAKE_INFO, FACTS) as parts:
            assert parts.get(1) is None
    part.write_bytes(whole[:-9])
    add(path)  # another shard finishes: what is whole goes in
    assert load_votes(path).idx.tolist() == [2]
    add(path, 1)
    assert load_votes(path).idx.tolist() == [1, 2]


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({**FACTS, "seed": 9})])
def test_parameters_that_cannot_be_read_are_refused_by_name(text: str, tmp_path: Path) -> None:
    add(tmp_path / "v.npz", 1, finish=False)
    (tmp_path / "v.npz.parts" / "facts.json").write_text(text)
    with pytest.raises(DataError, match=r"v\.npz\.parts"):
        add(tmp_path / "v.npz", 2)
    assert "1.npz" in names(tmp_path / "v.npz.parts")


def test_what_is_no_place_for_votes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.npz.parts").write_text("mine")
    os.mkfifo(tmp_path / "fifo")
    for path, message in ((tmp_path / "v.npz", "a place for votes and their parts"), (tmp_path / "fifo", "a FIFO")):
        with pytest.raises(DataError, match=message):
            add(path, 1)
    assert (tmp_path / "v.npz.parts").read_text() == "mine"
