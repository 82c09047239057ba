"""What tables lack of their run is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from certify.service.errors import DataError
from certify.service.research.curves import curves_of_tables
from certify.service.research.tables import Row, facts_path, open_table, read_table

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
