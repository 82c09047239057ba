"""The field's table: read back by pandas as the field does, gone on with after a kill, refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from certify.service.errors import DataError
from certify.service.research.tables import FIELD_COLUMNS, Row, facts_path, open_table, read_table

ROW = Row(
    idx=7,
    label=3,
    predict=3,
    radius=0.542185,
    seconds=75.25,
    sigma=0.5,
    plain=3,
    outcome="certified",
    reason=None,
    samples=512,
    policy="best",
    run="0123456789ab",
)
ABSTAINED = replace(ROW, idx=9, predict=-1, radius=0.0, sigma=None, outcome="abstained", reason="undecided")


def write(path: Path, *rows: Row, run: str = ROW.run) -> None:
    with open_table(path, run, {"seed": 5}) as table:
        for row in rows:
            table.append(row)


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "t.tsv", ROW, ABSTAINED)
    table = read_table(tmp_path / "deep" / "t.tsv")
    assert table.idx.tolist() == [7, 9]
    assert table.predict.tolist() == [3, -1]
    assert table.radius.tolist() == [0.542185, 0.0]
    assert table.correct.tolist() == [True, False]
    assert table.samples is not None and table.samples.tolist() == [512, 512]
    assert (table.policy, table.run) == ("best", ROW.run)
    assert '"seed": 5' in facts_path(tmp_path / "deep" / "t.tsv").read_text()


def test_the_fields_own_reading_finds_its_columns_first(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    write(tmp_path / "t.tsv", ROW, ABSTAINED)
    frame = pandas.read_csv(tmp_path / "t.tsv", delimiter="\t")  # locuslab/smoothing, code/analyze.py
    assert tuple(frame.columns[:6]) == FIELD_COLUMNS
    assert (frame["correct"] & (frame["radius"] >= 0.5)).mean() == 0.5
    assert frame["time"][0] == "0:01:15.250000"


def test_a_row_that_a_kill_cut_is_dropped_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    write(path, ROW, ABSTAINED)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with open_table(path, ROW.run, {}) as table:
            there = table.done.idx.tolist()
            for row in (ROW, ABSTAINED):
                if row.idx not in there:
                    table.append(row)
        assert path.read_bytes() == whole, cut


def test_another_runs_table_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "t.tsv", ROW)
    with pytest.raises(DataError, match=r"expected rows of run ffff, got rows of run 0123456789ab"):
        write(tmp_path / "t.tsv", run="ffff")
    assert len(read_table(tmp_path / "t.tsv")) == 1


def test_two_writers_are_one_too_many(tmp_path: Path) -> None:
    with open_table(tmp_path / "t.tsv", "a", {}), pytest.raises(DataError, match="another process"):
        write(tmp_path / "t.tsv", run="a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no idx"),
        ("idx\tlabel\tpredict\tcorrect\n", "there is no radius"),
        ("idx\tlabel\tpredict\tradius\tcorrect\n1\t2\n", "line 2: expected 5 columns, got 2"),
        ("idx\tlabel\tpredict\tradius\tcorrect\n1\t2\tx\t0\t0\n", "line 2, predict: expected a number, got 'x'"),
        ("idx\tlabel\tpredict\tradius\tcorrect\n1\t2\t2\t0\t1\n1\t2\t2\t0\t1\n", "each image once"),
    ],
)
def test_what_is_no_table_is_refused_by_line_and_column(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "t.tsv")


def test_a_file_that_is_no_table_is_left_as_it_was(tmp_path: Path) -> None:
    for content in ("no newline", "some text\nof mine\n"):
        (tmp_path / "mine.txt").write_text(content)
        with pytest.raises(DataError, match="expected a table"):
            write(tmp_path / "mine.txt")
        assert (tmp_path / "mine.txt").read_text() == content


def test_the_fields_own_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t3\t3\t1.53\t1\t0:00:11.5\n")
    table = read_table(tmp_path / "t.tsv")
    assert table.radius.tolist() == [1.53] and table.samples is None and table.run is None
