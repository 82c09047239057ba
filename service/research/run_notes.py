"""What a run says beside its rows: what of the data was passed over, and which images cannot be used, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...models.datasets import DataSet
from ..errors import DataError
from .tables import facts_path, load_facts, save_facts

__all__ = ("RunNotes",)

_IDX = re.compile(r"\d{1,18}", re.ASCII)


class RunNotes:
    """Kept in the table's OUT.json as they come, so that a run that is killed and goes on loses none."""

    def __init__(
        self,
        out: Path,
        run: str,
        facts: Mapping[str, object],
        dataset: DataSet,
        classes: tuple[str, ...],
        *,
        place: Mapping[str, object] | None = None,
    ) -> None:
        """facts: what the run's rows depend on. classes: the bundle's. place: which part of which whole this
        is, and what certifies it."""
        self._out, self._run, self._facts = out, run, facts
        self._place = dict(place or {})
        self._skipped = dict(dataset.skipped)
        used = {dataset.classes[label] for label in dataset.labels}
        self._by_number = not dataset.named and not used <= set(classes)
        self.invalid = _kept(out, run)  # idx -> what is wrong with the image

    def as_facts(self) -> dict[str, object]:
        notes: dict[str, object] = {**self._place, **({"labels": "by number"} if self._by_number else {})}
        if self._skipped:
            notes["skipped"] = self._skipped
        if self.invalid:
            notes["invalid"] = {str(idx): wrong for idx, wrong in self.invalid.items()}
        return notes

    def add(self, idx: int, wrong: str) -> None:
        """An image that cannot be used."""
        self.invalid[idx] = wrong
        save_facts({"run": self._run, **self._facts, **self.as_facts()}, facts_path(self._out))

    def lines(self) -> list[str]:
        """To be said at the end; nothing where there is nothing to say."""
        said = []
        if self._by_number:
            said.append("labels are numbers: taken as the positions of the bundle's classes")
        if self._skipped:
            said.append("skipped: " + ", ".join(f"{count} ({why})" for why, count in sorted(self._skipped.items())))
        if self.invalid:
            images = f"{len(self.invalid)} image{'s' * (len(self.invalid) != 1)}"
            said.append(f"{images} could not be used and count as abstained: {facts_path(self._out)} says why")
        return said


def _kept(out: Path, run: str) -> dict[int, str]:
    """What a run that goes on has found already."""
    try:
        facts: dict[str, Any] = load_facts(facts_path(out)) if out.exists() else {}
    except DataError:  # it is written anew
        return {}
    kept = facts.get("invalid") if facts.get("run") == run else None
    if not isinstance(kept, dict):
        return {}
    return {int(idx): str(wrong) for idx, wrong in kept.items() if _IDX.fullmatch(idx)}
