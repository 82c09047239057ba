"""A report made of a folder's tables, and written into it in every form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....models.datasets import DataSet
from ....models.files import whole_file
from ...errors import DataError
from ..curves import radii_of
from .drawing import curve_svg
from .examples import choose_examples, thumbnails
from .figures import Rows, acr_figures, class_figures, cost_of, curve_figures, outcomes_of, radii_figures, read_rows
from .junit import as_junit
from .markdown import as_markdown
from .ml_bom import as_ml_bom
from .page import page
from .schemas import Data, Report, Shards
from .texts import shown
from .words import sentences

__all__ = ("CERTIFICATES", "Audited", "check_ready", "make_report", "rows_path", "write_report")

CERTIFICATES = "certificates"  # their folder in the report's
# Of the facts beside a table, what is no parameter, or stands in the report by itself.
_NOTES = frozenset(("run", "about", "images", "invalid", "labels", "shard", "skipped"))


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What a folder's report is about, beside its tables."""

    dataset: DataSet  # all that is asked for, as it is certified: cropped where that was wished
    shards: int
    radii: Sequence[float]  # ascending; (): those that suit the rows
    confidence: float  # in (0, 1)
    resized: bool  # by the request's own field
    images: bool  # with thumbnails
    repeat: str


def check_ready() -> None:
    """Before hours of work. Raises DataError, naming what is not installed."""
    modules = {"jinja2": "Jinja2", "matplotlib": "matplotlib", "cyclonedx": "cyclonedx-python-lib"}
    if missing := [package for module, package in modules.items() if find_spec(module) is None]:
        raise DataError(f"expected {', '.join(missing)}, to write the report with (pip install 'certify[audit]')")


def rows_path(folder: Path, shard: tuple[int, int]) -> Path:
    """The table of shard (i, n)."""
    number, of = shard
    return folder / ("rows.tsv" if of == 1 else f"rows-{number}-of-{of}.tsv")


def write_report(folder: Path, audited: Audited) -> Report:
    """report.html, report.json, report.md, junit.xml and model.cdx.json, from all tables that the folder has.

    Raises DataError where there is no row yet, or tables are of several runs.
    """
    report, rows = make_report(folder, audited)
    pictures: Mapping[int, str] = {}
    if audited.images:
        shape = report.model.input_shape
        pictures = thumbnails(report.examples, audited.dataset, shape, resize=audited.resized)
    svg = curve_svg(rows.curve, report.curve, report.radii, report.confidence)
    forms: dict[str, Callable[[], bytes]] = {
        "report.json": lambda: (json.dumps(report.model_dump(mode="json"), indent=2) + "\n").encode(),
        "report.html": lambda: page(report, svg=svg, pictures=pictures).encode(),
        "report.md": lambda: as_markdown(report).encode(),
        "junit.xml": lambda: as_junit(report, rows),
        "model.cdx.json": lambda: as_ml_bom(report).encode(),
    }
    for name, form in forms.items():
        with whole_file(folder / name) as fresh:
            fresh.write_bytes(form())
    return report


def make_report(folder: Path, audited: Audited) -> tuple[Report, Rows]:
    """The figures, and the rows that they are of: each file once. Raises DataError as write_report does."""
    whole = read_rows([path for path in _tables(folder, audited) if path.exists()])
    rows = whole.only(_first_of_each(audited.dataset, whole))
    return _report(folder, audited, whole, rows), rows


def _tables(folder: Path, audited: Audited) -> list[Path]:
    return [rows_path(folder, (number + 1, audited.shards)) for number in range(audited.shards)]


def _first_of_each(dataset: DataSet, rows: Rows) -> NDArray[np.bool_]:
    """Equal files have equal noise, so that they are one draw of a population (docs/protocol.md, 10.1)."""
    contents = dict(zip(dataset.idx, dataset.contents(), strict=True))
    seen: set[str | None] = {None}
    kept = []
    for idx in rows.idx.tolist():
        content = contents.get(idx)  # None: it cannot be read, and nothing was drawn for it
        kept.append(content is None or content not in seen)
        seen.add(content)
    return np.array(kept)


def _report(folder: Path, audited: Audited, whole: Rows, rows: Rows) -> Report:
    """whole: all that the folder has; rows: each file once."""
    dataset, confidence = audited.dataset, audited.confidence
    about = rows.about.model_copy(
        update={"bundle": shown(rows.about.bundle), "classes": [shown(name) for name in rows.about.classes]}
    )
    chosen = audited.radii or radii_of([rows.curve])
    radii = radii_figures(rows, chosen, confidence)
    class_radius = next((radius for radius in chosen if radius > 0), chosen[0])
    data = Data(
        name=shown(dataset.name),
        part=shown(dataset.split),
        digest=str(rows.facts["data_digest"]),
        cropped="crop" in rows.facts,
        resized=audited.resized,
        asked=len(dataset),
        rows=len(whole),
        images=len(rows),
        labels="by number" if rows.facts.get("labels") == "by number" else "by name",
        skipped={shown(why): count for why, count in sorted(dataset.skipped.items())},
        invalid={idx: shown(rows.invalid[idx]) for idx in sorted(rows.invalid)},
    )
    return Report(
        run=str(rows.facts["run"]),
        made_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        confidence=confidence,
        data=data,
        model=about,
        parameters={shown(name): _shown(value) for name, value in rows.facts.items() if name not in _NOTES},
        shards=_shards(folder, audited, whole),
        radii=radii,
        acr=acr_figures(rows.curve),
        curve=curve_figures(rows.curve, confidence),
        outcomes=outcomes_of(rows, confidence),
        classes=[
            each.model_copy(update={"name": shown(each.name)})
            for each in class_figures(rows, chosen, confidence, class_radius)
        ],
        class_radius=class_radius,
        cost=cost_of(whole),
        examples=choose_examples(rows, about.classes),
        certificates=sum((folder / CERTIFICATES / f"{idx}.json").exists() for idx in whole.idx.tolist()),
        says=sentences(about, data, radii, confidence, int(rows.certified.sum())),
        repeat=shown(audited.repeat),
    )


def _shards(folder: Path, audited: Audited, rows: Rows) -> Shards:
    have = set(rows.idx.tolist())
    missing, unfinished = [], []
    for number, path in enumerate(_tables(folder, audited), start=1):
        wanted = set(audited.dataset.idx[number - 1 :: audited.shards])
        if wanted and not path.exists():
            missing.append(f"{number}/{audited.shards}")
        elif not wanted <= have:
            unfinished.append(f"{number}/{audited.shards}")
    return Shards(number=audited.shards, missing=missing, unfinished=unfinished)


def _shown(value: Any) -> Any:
    """Of what JSON has."""
    match value:
        case str():
            return shown(value)
        case list():
            return [_shown(each) for each in value]
        case dict():
            return {shown(str(name)): _shown(each) for name, each in value.items()}
    return value
