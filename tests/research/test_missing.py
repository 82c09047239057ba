"""What tables lack of their run is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from certify.service.backends.fake import FAKE_INFO
from certify.service.errors import DataError
from certify.service.research.curves import curves_of_tables, curves_of_votes
from certify.service.research.missing import missing_votes
from certify.service.research.tables import Row, facts_path, open_table, read_table
from certify.service.research.votes_file import load_votes
from certify.service.research.votes_file_parts import open_votes
from tests.research.test_votes_file_parts import FACTS, drawn

ROW = Row(
    idx=0, label=0, predict=0, radius=0.5, seconds=1.0, sigma=0.5, plain=0, outcome="certified", reason=None,
    samples=512, policy="best", run="a",
)  # fmt: skip


def shard(place: Path, number: int, of: int, images: int, *, rows: int | None = None) -> Path:
    path = place / f"s{number}.tsv"
    with open_table(path, "a", {}, {"images": images, "shard": f"{number}/{of}"}) as table:
        for idx in list(range(number - 1, images, of))[:rows]:
            table.append(Row(**{**vars(ROW), "idx": idx}))
    return path


def said(*paths: Path) -> tuple[str, ...]:
    (curve,) = curves_of_tables([read_table(path) for path in paths])
    return curve.missing


def test_all_shards_lack_nothing(tmp_path: Path) -> None:
    assert said(*(shard(tmp_path, number, 3, 10) for number in (1, 2, 3))) == ()


def test_shards_that_are_not_there_are_named(tmp_path: Path) -> None:
    first = shard(tmp_path, 1, 4, 10)
    assert said(first, shard(tmp_path, 3, 4, 10)) == (
        f"{first} and 1 more: 5 of 10 images", "no table of shard 2/4, 4/4",
    )  # fmt: skip
    (curve,) = curves_of_tables([read_table(first)])
    assert (len(curve), curve.expected) == (3, 10)


def test_a_run_that_did_not_end_is_named(tmp_path: Path) -> None:
    first = shard(tmp_path, 1, 2, 10, rows=4)
    assert said(first, shard(tmp_path, 2, 2, 10)) == (
        f"{first} and 1 more: 9 of 10 images", f"{first}: 4 of 5 rows: its run did not end",
    )  # fmt: skip


def test_nobody_knows_of_a_table_without_facts(tmp_path: Path) -> None:
    path = shard(tmp_path, 1, 2, 10)
    facts_path(path).unlink()
    assert said(path) == ()
    facts_path(path).write_text('{"run": "a"}')  # of an older version
    assert said(path) == ()


def test_facts_that_are_none_are_refused(tmp_path: Path) -> None:
    path = shard(tmp_path, 1, 2, 10)
    facts_path(path).write_text(json.dumps({"images": "many", "shard": "1/2"}))
    with pytest.raises(DataError, match="expected images as a number and shard as i/n, got 'many'"):
        said(path)


def votes(path: Path, number: int, of: int, images: int, *, without: int | None = None, silent: bool = False) -> Path:
    shard = None if silent else (number, of, images)
    with open_votes(path, FAKE_INFO, FACTS, shard=shard) as parts:
        for idx in range(number - 1, images, of):
            if idx != without:
                parts.put(idx, 1, drawn(idx))
        parts.finish()
    return path


def lack(*paths: Path) -> list[str]:
    return missing_votes(load_votes(*paths))


def test_votes_of_all_shards_lack_nothing_in_one_file_or_in_several(tmp_path: Path) -> None:
    several = [votes(tmp_path / f"{number}.npz", number, 3, 10) for number in (1, 2, 3)]
    one = [votes(tmp_path / "one.npz", number, 3, 10) for number in (3, 1, 2)][0]
    assert lack(*several) == lack(one) == []
    assert load_votes(*several).expected == load_votes(one).expected == 10


def test_shards_whose_votes_are_not_there_are_named(tmp_path: Path) -> None:
    paths = [votes(tmp_path / f"{number}.npz", number, 4, 10) for number in (1, 3)]
    assert lack(*paths) == ["drawn, all: votes of 5 of 10 images", "not there, or not whole: shard 2/4, 4/4"]
    assert {(curve.expected, len(curve), *curve.missing) for curve in curves_of_votes(load_votes(*paths))} == {
        (10, 5, *lack(*paths))
    }


def test_an_image_without_votes_is_missing_though_its_shard_is_there(tmp_path: Path) -> None:
    assert lack(votes(tmp_path / "v.npz", 1, 1, 5, without=2)) == ["drawn, all: votes of 4 of 5 images"]


def test_a_run_that_was_cut_off_has_no_shard_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    with open_votes(path, FAKE_INFO, FACTS, shard=(1, 2, 10)) as parts:
        parts.put(0, 1, drawn(0))
    assert lack(votes(path, 2, 2, 10)) == ["drawn, all: votes of 6 of 10 images", "not there, or not whole: shard 1/2"]


def test_nobody_knows_of_votes_that_do_not_say(tmp_path: Path) -> None:
    older, newer = votes(tmp_path / "a.npz", 1, 2, 10, silent=True), votes(tmp_path / "b.npz", 2, 2, 12)
    assert lack(older) == lack(older, newer) == []
    votes(older, 2, 2, 12)  # and a file that was silent of some of its images stays so
    assert lack(older) == []
