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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models.files import check_file, whole_file
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
        facts = json.loads(path.read_text(encoding="utf-8"))
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
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a table of results: {error}") from error
    names = lines[0].split("\t") if lines else []
    if missing := [name for name in FIELD_COLUMNS if name not in names and name != "time"]:
        raise DataError(f"{path}: expected tab-separated columns {', '.join(FIELD_COLUMNS)}; there is no {missing[0]}")
    cells: dict[str, list[str]] = {name: [] for name in names}
    while lines and not lines[-1].strip():  # an editor's
        lines.pop()
    for number, line in enumerate(lines[1:], start=2):
        values = line.split("\t")
        if len(values) != len(names):
            raise DataError(f"{path}: line {number}: expected {len(names)} columns, got {len(values)}")
        for name, value in zip(names, values, strict=True):
            cells[name].append(value)

    def integers(name: str) -> NDArray[np.int64]:
        return np.array([_number(path, at, name, text, int) for at, text in enumerate(cells[name])], dtype=np.int64)

    radius = np.array([_number(path, at, "radius", text, float) for at, text in enumerate(cells["radius"])])
    idx = integers("idx")
    if len(set(idx.tolist())) != len(idx):
        raise DataError(f"{path}: idx: expected each image once")
    return Table(
        path=path,
        idx=idx,
        label=integers("label"),
        predict=integers("predict"),
        radius=radius.astype(np.float64),
        correct=integers("correct") != 0,
        samples=integers("samples") if "samples" in cells else None,
        outcome=tuple(cells["outcome"]) if "outcome" in cells else None,
        policy=_only(path, "policy", cells),
        run=_only(path, "run", cells),
    )


_WORDS = {"True": 1, "False": 0}  # of `correct`, as pandas writes it


def _number(path: Path, at: int, name: str, text: str, kind: type[int] | type[float]) -> float:
    """As kind; a whole number may be written 3.0. Radii are finite, so that a mean of them is."""
    try:
        value = _WORDS[text] if name == "correct" and text in _WORDS else float(text)
        if math.isfinite(value) and (kind is float or value == int(value)):
            return kind(text if kind is int and text.lstrip("-").isdecimal() else value)
    except ValueError:
        pass
    raise DataError(f"{path}: line {at + 2}, {name}: expected a number, got {text!r}")


def _only(path: Path, name: str, cells: dict[str, list[str]]) -> str | None:
    values = set(cells.get(name, ()))
    if len(values) > 1:
        raise DataError(f"{path}: {name}: expected one for the whole file, got {', '.join(sorted(values)[:3])}")
    return values.pop() if values else None
