"""Live progress of the commands that take long: a bar at a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..research.tables import Row, Table

__all__ = ("Live", "Steps")

LINE_SECONDS = 30.0  # without a terminal


class _Shown:
    """A bar while `with` lasts, on stderr: stdout is for results."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            disable=not self._console.is_terminal,
            speed_estimate_period=300,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class Live(_Shown):
    """`with Live(total, done) as live: live.add(row)`."""

    def __init__(self, total: int, done: Table) -> None:
        super().__init__()
        self._total, self._rows, self._begun = total, len(done), len(done)
        self._right, self._radius = int(done.correct.sum()), float((done.correct * done.radius).sum())
        self._started = self._printed = time.monotonic()
        self._task = self._bar.add_task("", total=total, completed=self._rows, figures=self._figures())

    def __enter__(self) -> Self:
        super().__enter__()
        if self._rows:
            self._console.print(f"going on after {self._rows} rows", highlight=False)
        return self

    def add(self, row: Row) -> None:
        self._rows += 1
        self._right += row.correct
        self._radius += row.radius * row.correct
        self._bar.update(self._task, completed=self._rows, figures=self._figures())
        now = time.monotonic()
        if not self._console.is_terminal and now - self._printed >= LINE_SECONDS:
            self._printed = now
            seconds_a_row = (now - self._started) / (self._rows - self._begun)
            left = seconds_a_row * (self._total - self._rows)
            self._console.print(
                f"{self._rows}/{self._total}  {self._figures()}  {left:.0f} s left", highlight=False, soft_wrap=True
            )

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _figures(self) -> str:
        if not self._rows:
            return "certified accuracy -"
        return f"certified accuracy {self._right / self._rows:.3f}  ACR {self._radius / self._rows:.3f}"


class Steps(_Shown):
    """`with Steps() as steps: steps.begin(total); steps.add(what)`: a known number of steps that are not rows."""

    def __init__(self) -> None:
        super().__init__()
        self._task = self._bar.add_task("", total=None, figures="")

    def begin(self, total: int) -> None:
        self._bar.update(self._task, total=total)

    def add(self, what: str) -> None:
        """One step more; `what` it is or gave."""
        self._bar.advance(self._task)
        self.say(what)

    def count(self, done: int, total: int) -> None:
        """So many of so many; says nothing without a terminal."""
        self._bar.update(self._task, completed=done, total=total)

    def say(self, what: str) -> None:
        self._bar.update(self._task, figures=what)
        if not self._console.is_terminal:
            self._console.print(what, highlight=False, soft_wrap=True)
