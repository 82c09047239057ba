"""A report's folder, with tables of rows that are written down here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from certify.models.datasets import DataSet
from certify.service.answering.schemas import RuntimeFacts
from certify.service.research.about import About
from certify.service.research.audit.report import Audited, make_report, rows_path, write_report
from certify.service.research.tables import Row, open_table
from tests import pictures

# Whatever a folder may be called, and what a page, a table, XML or a terminal may take for its own.
HOSTILE = "<img src=x onerror=alert(1)>|`a`\u202e\x1b[31m\n&amp;\"'](http://a.b) {{ 7*7 }} \udcff"
FACTS = {"data": "digits", "split": "test", "data_digest": "sha256:" + "a" * 64, "seed": 1}


@dataclass(frozen=True)
class Made:
    label: int
    predict: int  # -1: abstained
    radius: float = 0.0
    reason: str = ""
    outcome: str = ""

    def row(self, idx: int, run: str) -> Row:
        outcome = self.outcome or ("abstained" if self.predict < 0 else "certified")
        return Row(
            idx=idx, label=self.label, predict=self.predict, radius=self.radius, seconds=0.25, sigma=None, plain=None,
            outcome=outcome, reason=self.reason or None, samples=1000, policy="best", run=run,
        )  # fmt: skip


# Six right, two wrong, one that abstained and one that cannot be used.
TEN = (
    *(Made(0, 0, radius) for radius in (0.1, 0.3, 0.5, 0.7)),
    Made(1, 1, 0.25), Made(1, 1, 0.2), Made(1, 0, 0.4), Made(1, 2, 0.1),
    Made(2, -1, reason="undecided"), Made(2, -1, reason="image_undecodable", outcome="invalid"),
)  # fmt: skip


def about(**changes: Any) -> About:
    whole = {
        "certify": "0.1.0",
        "bundle": "digits",
        "bundle_digest": "sha256:" + "b" * 64,
        "classes": ["zero", "one", "two", "three"],
        "input_shape": (1, 8, 8),
        "runtime": RuntimeFacts(generator="g", device="cpu", engine="e", dtype="float32", micro_batch=64),
        "sigmas": [0.25, 0.5],
        "thresholds": [0.5, 0.5],
        "noise": ["gaussian", "gaussian"],
        "final": "plurality",
        "norm": "l2",
        "method": "sampled",
        "alpha": 0.001,
        "samples": 1000,
        "seed_key_fingerprint": "0123456789abcdef",
    }
    return About.model_validate(whole | changes)


def dataset(rows: Sequence[Made], **changes: Any) -> DataSet:
    """Pictures of noise, each another."""
    data = DataSet(
        name="digits", split="test", classes=("zero", "one", "two", "three"), idx=tuple(range(len(rows))),
        labels=tuple(row.label for row in rows), read=lambda position: pictures.png(position),
    )  # fmt: skip
    return replace(data, **changes)


def table(
    folder: Path, rows: Sequence[Made], *, shard: tuple[int, int] = (1, 1), run: str = "0123456789ab", **notes: Any
) -> None:
    """Rows of one shard of `rows`, with what `certify dataset` keeps beside them."""
    notes = {"about": about().model_dump(mode="json"), **notes}
    with open_table(rows_path(folder, shard), run, FACTS, notes) as writer:
        for idx in range(len(rows))[shard[0] - 1 :: shard[1]]:
            writer.append(rows[idx].row(idx, run))


def audited(data: DataSet, **changes: Any) -> Audited:
    usual = Audited(
        dataset=data, shards=1, radii=(0.0, 0.25, 0.5), confidence=0.95, resized=False, images=True,
        repeat="certify audit digits",
    )  # fmt: skip
    return replace(usual, **changes)


def figures(folder: Path, rows: Sequence[Made] = TEN, data: DataSet | None = None, **changes: Any) -> dict[str, Any]:
    """What report.json would be."""
    return make_report(folder, audited(data or dataset(rows), **changes))[0].model_dump(mode="json")


def report(folder: Path, rows: Sequence[Made] = TEN, data: DataSet | None = None, **changes: Any) -> dict[str, Any]:
    """report.json, of a folder with all forms."""
    write_report(folder, audited(data or dataset(rows), **changes))
    whole: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return whole
