"""The field's file of results: tab-separated, one row an image, `idx label predict radius correct time` first.

Ours come after them. locuslab/smoothing reads such a file with pandas, by column names; so does read_table(), which
also takes files without our columns. -1 is "abstained"; so is an image that cannot be used, with the outcome "invalid".
A row is written whole, and is on disk before the next one is asked for: a run that is killed loses nothing but the row
it was at.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models.files import check_file, read_text, whole_file
from ..errors import DataError

__all__ = (
    "FIELD_COLUMNS",
    "OUR_COLUMNS",
    "Row",
    "Table",
    "TableWriter",
    "facts_path",
    "load_facts",
    "open_table",
    "read_table",
    "save_facts",
)

FIELD_COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
OUR_COLUMNS = ("sigma", "plain", "outcome", "reason", "samples", "policy", "run")
ABSTAIN = -1
# Two million rows of a table, or what is wrong with as many images beside it.
MAX_BYTES = 2**28
_TIME = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)", re.ASCII)  # as str(timedelta) has it
_INTEGER = re.compile(r"-?\d+(?:\.0*)?", re.ASCII)
_PREDICT = ("pred", "prediction")  # what some scripts call it


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one image. predict -1: abstained, radius 0. run: 12 hex digits that name every parameter."""

    idx: int
    label: int
    predict: int
    radius: float  # on the six-decimal grid, rounded down
    seconds: float
    sigma: float | None  # of the certifying scale
    plain: int | None  # the classifier on the clean image
    outcome: str
    reason: str | None
    samples: int  # draws spent, pilots included
    policy: str
    run: str

    @property
    def correct(self) -> bool:
        return self.predict == self.label

    def line(self) -> str:
        cells = (
            self.idx,
            self.label,
            self.predict,
            f"{self.radius:.6f}",  # exact: the radius lies on that grid
            int(self.correct),
            timedelta(seconds=round(self.seconds, 6)),  # h:mm:ss.ffffff, as the field writes it
            "" if self.sigma is None else f"{self.sigma:g}",
            "" if self.plain is None else self.plain,
            self.outcome,
            self.reason or "",
            self.samples,
            self.policy,
            self.run,
        )
        return "\t".join(map(str, cells)) + "\n"


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Columns of a file of results; those that are only ours are None when the file lacks them."""

    path: Path
    idx: NDArray[np.int64]
    label: NDArray[np.int64]
    predict: NDArray[np.int64]
    radius: NDArray[np.float64]
    correct: NDArray[np.bool_]
    samples: NDArray[np.int64] | None
    outcome: tuple[str, ...] | None
    reason: tuple[str, ...] | None  # "" for none
    seconds: NDArray[np.float64] | None  # None also where the field wrote them otherwise than we do
    policy: str | None
    run: str | None

    def __len__(self) -> int:
        return len(self.idx)


def facts_path(path: Path) -> Path:
    """Beside a table: the parameters that its `run` stands for, as JSON."""
    return path.with_name(path.name + ".json")


def save_facts(facts: Mapping[str, object], path: Path) -> None:
    """As JSON, whole or not at all. Raises DataError where it cannot be written."""
    with whole_file(path) as fresh:
        fresh.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_facts(path: Path) -> dict[str, Any]:
    """What save_facts wrote. Raises DataError, naming the file, when it is not that."""
    try:
        facts = json.loads(read_text(path, MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected the parameters of a run, as JSON: {error}") from error
    if not isinstance(facts, dict):
        raise DataError(f"{path}: expected the parameters of a run, as a JSON object, got {type(facts).__name__}")
    return facts


class TableWriter:
    """Made by open_table()."""

    def __init__(self, path: Path, stream: FileIO, done: Table) -> None:
        self.path, self._stream = path, stream
        self.done = done  # the rows that were there

    def append(self, row: Row) -> None:
        """Raises DataError when it cannot be written whole; what was of it is dropped when the run goes on."""
        with _written(self.path):
            _write(self._stream, row.line().encode())
            os.fsync(self._stream.fileno())


@contextmanager
def open_table(
    path: Path, run: str, facts: Mapping[str, object], notes: Mapping[str, object] | None = None
) -> Iterator[TableWriter]:
    """Begin the table at `path`, or go on with it if it is of the same run. One process at a time.

    facts are kept beside it, and notes, which no row depends on.

    Raises DataError when the file is another run's, is no table, or is being written.
    """
    check_file(path)
    with _written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = FileIO(path, "a+")  # unbuffered: what could not be written is not tried again when it is closed
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"{path}: expected a file that nobody writes, and another process does") from error
        stream.seek(0)
        content = stream.readall()
        whole = content[: content.rfind(b"\n") + 1]
        header = "\t".join((*FIELD_COLUMNS, *OUR_COLUMNS)) + "\n"
        if not whole and not header.encode().startswith(content):
            raise DataError(f"{path}: expected a table of results or no file, got something else")
        with _written(path):
            if len(whole) < len(content):  # a kill came in the middle of a row
                stream.truncate(len(whole))
            if not whole:
                _write(stream, header.encode())
        if whole and not whole.startswith(header.encode()):
            raise DataError(f"{path}: expected a table with the columns {header.strip()!r}, got another file")
        done = read_table(path)
        if done.run not in (None, run) and len(done):
            raise DataError(
                f"{path}: expected rows of run {run}, got rows of run {done.run}, which had other parameters "
                f"(see {facts_path(path).name}); name another --out"
            )
        save_facts({"run": run, **facts, **(notes or {})}, facts_path(path))
        yield TableWriter(path, stream, done)


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: expected a file that can be written: {error}") from error


def _write(stream: FileIO, content: bytes) -> None:
    """All of it: an unbuffered write may take a part."""
    rest = memoryview(content)
    while rest:
        rest = rest[stream.write(rest) or 0 :]


def read_table(path: Path) -> Table:
    """Raises DataError, naming line and column, unless it is a table with at least the field's columns."""
    names, first, rows = _cells(path)
    cells: dict[str, list[str]] = {name: [] for name in names}
    for number, values in enumerate(rows, start=first):
        if len(values) != len(names):
            raise DataError(f"{path}: line {number}: expected {len(names)} columns, got {len(values)}")
        for name, value in zip(names, values, strict=True):
            cells[name].append(value)

    def numbers(name: str, kind: type[int] | type[float]) -> list[float]:
        return [_number(path, at, name, text, kind) for at, text in enumerate(cells[name], start=first)]

    def integers(name: str) -> NDArray[np.int64]:
        return np.array(numbers(name, int), dtype=np.int64)

    idx = integers("idx")
    if len(set(idx.tolist())) != len(idx):
        raise DataError(f"{path}: idx: expected each image once")
    table = Table(
        path=path,
        idx=idx,
        label=integers("label"),
        predict=integers("predict"),
        radius=np.array(numbers("radius", float), dtype=np.float64),
        correct=integers("correct") != 0,
        samples=integers("samples") if "samples" in cells else None,
        outcome=tuple(cells["outcome"]) if "outcome" in cells else None,
        reason=tuple(cells["reason"]) if "reason" in cells else None,
        seconds=_seconds(cells.get("time", [])),
        policy=_only(path, "policy", cells),
        run=_only(path, "run", cells),
    )
    _check(table, first)
    return table


def _cells(path: Path) -> tuple[list[str], int, list[list[str]]]:
    """Columns' names, the number of the first line with figures, and those lines. Raises DataError."""
    try:
        lines = read_text(path, MAX_BYTES).split("\n")  # every end of a line is read as this one
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a table of results: {error}") from error
    while lines and not lines[-1].strip():  # an editor's
        lines.pop()
    rows = [[cell.strip() for cell in line.split("\t")] for line in lines]
    # Scripts that run in several processes write a header in the first one's file alone.
    if rows and len(rows[0]) in (len(FIELD_COLUMNS) - 1, len(FIELD_COLUMNS)) and _INTEGER.fullmatch(rows[0][0]):
        return list(FIELD_COLUMNS[: len(rows[0])]), 1, rows
    names = ["predict" if name in _PREDICT else name for name in rows[0]] if rows else []
    if missing := [name for name in FIELD_COLUMNS if name not in names and name != "time"]:
        raise DataError(f"{path}: expected tab-separated columns {', '.join(FIELD_COLUMNS)}; there is no {missing[0]}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{path}: expected each column once, and {twice[0]!r} is there {names.count(twice[0])} times")
    return names, 2, rows[1:]


def _check(table: Table, first: int) -> None:
    """A row that contradicts itself would count for what nobody certified. Raises DataError."""
    for at in range(len(table)):
        label, predict, radius = table.label[at], table.predict[at], table.radius[at]
        if predict < ABSTAIN or radius < 0:
            what = f"expected predict of at least {ABSTAIN} and radius of at least 0, got {predict} and {radius:g}"
        elif bool(table.correct[at]) != (label == predict != ABSTAIN):
            what = f"expected correct to say whether predict is label, got {predict} of {label} as {table.correct[at]}"
        else:
            continue
        raise DataError(f"{table.path}: line {at + first}: {what}")


_WORDS = {"true": 1, "false": 0}  # of `correct`, as pandas writes it


def _number(path: Path, line: int, name: str, text: str, kind: type[int] | type[float]) -> float:
    """As kind; a whole number may be written 3.0. Radii are finite, so that a mean of them is."""
    try:
        value = _WORDS[text.lower()] if name == "correct" and text.lower() in _WORDS else float(text)
        if kind is float and math.isfinite(value):
            return value
        if kind is int and value == int(value) and abs(value) < 2**53:  # beyond, not every number is a float
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise DataError(f"{path}: line {line}, {name}: expected a number, got {text!r}")


def _seconds(texts: list[str]) -> NDArray[np.float64] | None:
    """Of h:mm:ss.ffffff, before which there may be days."""
    found = [_TIME.fullmatch(text) for text in texts]
    if not texts or not all(found):
        return None
    units = [tuple(float(part or 0) for part in match.groups()) for match in found if match is not None]
    return np.array([((days * 24 + hours) * 60 + minutes) * 60 + seconds for days, hours, minutes, seconds in units])


def _only(path: Path, name: str, cells: dict[str, list[str]]) -> str | None:
    values = set(cells.get(name, ()))
    if len(values) > 1:
        raise DataError(f"{path}: {name}: expected one for the whole file, got {', '.join(sorted(values)[:3])}")
    return values.pop() if values else None
