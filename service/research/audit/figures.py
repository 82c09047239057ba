"""An audit's figures, from its tables: the one place where they are computed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ...core.population import Population, by_class
from ...errors import DataError
from ..about import About
from ..curves import Curve
from ..tables import ABSTAIN, Table, facts_path, load_facts, read_table
from .schemas import Acr, AtRadius, ClassAtRadius, ClassFigures, Cost, CurveFigures, Outcome, Share

__all__ = (
    "Rows",
    "acr_figures",
    "class_figures",
    "cost_of",
    "curve_figures",
    "outcomes_of",
    "radii_figures",
    "read_rows",
    "share_of",
)

# Four digits: a ten-thousandth is less than one image of any set that is audited in a day.
_DIGITS = 10**4
# Of the curve in report.json: finer than what a page's width shows.
_CURVE_POINTS = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of one run, images ascending, and what is kept beside them."""

    idx: NDArray[np.int64]
    label: NDArray[np.int64]
    predict: NDArray[np.int64]
    radius: NDArray[np.float64]
    outcome: NDArray[np.str_]  # as in the table
    reason: NDArray[np.str_]  # "" for none
    samples: NDArray[np.int64]
    seconds: NDArray[np.float64]  # nan where a table has none
    facts: Mapping[str, object]  # of the first table
    about: About
    invalid: Mapping[int, str]  # idx -> what is wrong with the image

    def __len__(self) -> int:
        return len(self.idx)

    @cached_property
    def certified(self) -> NDArray[np.bool_]:
        """With any label."""
        return np.not_equal(self.predict, ABSTAIN)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        return np.equal(self.predict, self.label)

    @property
    def curve(self) -> Curve:
        return Curve(
            name=self.about.bundle,
            policy="best",
            sigma=None,
            final=self.about.final,
            correct=self.right,
            abstained=~self.certified,
            radius=self.radius,
            samples=self.samples,
            norm=self.about.norm,
        )

    def only(self, chosen: NDArray[np.bool_]) -> Rows:
        """chosen: (n,), of each row whether it stays."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in _COLUMNS})


_COLUMNS = ("idx", "label", "predict", "radius", "outcome", "reason", "samples", "seconds")


def read_rows(paths: Sequence[Path]) -> Rows:
    """The tables of one run's shards. Raises DataError when they are not that, or not of `certify dataset`."""
    tables, facts = [read_table(path) for path in paths], [load_facts(facts_path(path)) for path in paths]
    filled = [table for table in tables if len(table)]
    if not filled:
        raise DataError(f"{', '.join(map(str, paths)) or 'rows'}: expected at least one row")
    for table in filled:
        if table.run != filled[0].run:
            raise DataError(f"{table.path}: expected rows of run {filled[0].run}, got rows of run {table.run}")
    columns = {name: np.concatenate([_column(table, name) for table in filled]) for name in _COLUMNS}
    if len(np.unique(columns["idx"])) < len(columns["idx"]):
        raise DataError(f"{', '.join(str(table.path) for table in filled)}: expected shards, and an image is in two")
    order = np.argsort(columns["idx"])
    try:
        about = About.model_validate(facts[0].get("about"))
    except ValidationError as error:
        raise DataError(f"{facts_path(paths[0])}: about: expected what certified the rows: {error}") from error
    label, predict = columns["label"], columns["predict"]
    if not 0 <= label.min() <= max(label.max(), predict.max()) < len(about.classes) or predict.min() < ABSTAIN:
        raise DataError(f"{paths[0]}: expected labels of the {len(about.classes)} classes, got others")
    return Rows(
        **{name: column[order] for name, column in columns.items()},
        facts=facts[0],
        about=about,
        invalid={int(idx): str(wrong) for each in facts for idx, wrong in each.get("invalid", {}).items()},
    )


def _column(table: Table, name: str) -> NDArray[Any]:
    column = getattr(table, name)
    if column is None and name == "seconds":
        return np.full(len(table), np.nan)
    if column is None:
        raise DataError(f"{table.path}: expected a table of certify dataset; there is no {name}")
    return np.asarray(column)


def share_of(population: Population) -> Share:
    """Bounds are rounded outward."""
    lower, upper = population.interval
    return Share(
        count=population.certified,
        of=population.images,
        share=round(population.share, 4),
        lower=math.floor(lower * _DIGITS) / _DIGITS,
        upper=math.ceil(upper * _DIGITS) / _DIGITS,
    )


def radii_figures(rows: Rows, radii: Sequence[float], confidence: float) -> list[AtRadius]:
    """radii: in the norm and units of the rows'. confidence: of each bound."""
    return [
        AtRadius(
            radius=radius,
            certified=share_of(found := _population(rows.right & (rows.radius >= radius), rows, confidence)),
            robust=_robust(found),
            wrong=int((rows.certified & ~rows.right & (rows.radius >= radius)).sum()),
        )
        for radius in radii
    ]


def outcomes_of(rows: Rows, confidence: float) -> list[Outcome]:
    """Right and wrong, and each reason for anything else that came up."""
    kinds = Counter(_outcome(rows, at) for at in range(len(rows)))
    named = [("right", None), ("wrong", None), *sorted(kind for kind in kinds if kind[1] is not None)]
    return [
        Outcome.model_validate(
            {
                "outcome": outcome,
                "reason": reason,
                "images": share_of(_of(kinds[outcome, reason], len(rows), rows.about.alpha, confidence)),
            }
        )
        for outcome, reason in named
    ]


def class_figures(rows: Rows, radii: Sequence[float], confidence: float, class_radius: float) -> list[ClassFigures]:
    """Of the classes that the rows have, the worst at class_radius first; of equals, that of fewer right images."""
    present = sorted(set(rows.label.tolist()))
    alpha = rows.about.alpha
    at: dict[int, list[ClassAtRadius]] = {index: [] for index in present}
    for radius in radii:
        good = rows.right & (rows.radius >= radius)
        counts = {
            str(index): (int(good[rows.label == index].sum()), int((rows.label == index).sum())) for index in present
        }
        for name, found in by_class(counts, alpha=alpha, confidence=confidence).items():
            alone = _of(found.certified, found.images, alpha, confidence)
            at[int(name)].append(ClassAtRadius(certified=share_of(alone), robust=_robust(found)))
    figures = [_class(rows, index, at[index]) for index in present]
    place = list(radii).index(class_radius)
    return sorted(figures, key=lambda each: (each.at[place].certified.share, each.right / each.at[0].certified.of))


def curve_figures(curve: Curve, confidence: float) -> CurveFigures:
    n, last = len(curve.correct), float(curve.radius.max())
    # Six digits, as radii have: what is printed is where it was read.
    radii = sorted({round(last * at / _CURVE_POINTS, 6) for at in range(_CURVE_POINTS + 1)})
    # P[sup |F_n - F| > e] <= 2 exp(-2 n e^2), with Massart's constant, which cannot be better.
    band = math.sqrt(math.log(2 / (1 - confidence)) / (2 * n))
    return CurveFigures(
        radius=radii,
        share=[round(curve.accuracy(radius), 4) for radius in radii],
        band=math.ceil(band * _DIGITS) / _DIGITS,
    )


def acr_figures(curve: Curve) -> Acr:
    lower, upper = curve.acr_interval
    return Acr(
        value=round(curve.acr, 4),
        lower=math.floor(lower * _DIGITS) / _DIGITS,
        upper=math.ceil(upper * _DIGITS) / _DIGITS,
    )


def cost_of(rows: Rows) -> Cost:
    seconds = float(rows.seconds.sum())
    return Cost(
        samples=int(rows.samples.sum()),
        samples_an_image=round(float(rows.samples.mean()), 1),
        seconds=None if math.isnan(seconds) else round(seconds, 3),
    )


def _class(rows: Rows, index: int, at: list[ClassAtRadius]) -> ClassFigures:
    mine = rows.label == index
    return ClassFigures(
        index=index,
        name=rows.about.classes[index],
        right=int((mine & rows.right).sum()),
        wrong=int((mine & rows.certified & ~rows.right).sum()),
        abstained=int((mine & ~rows.certified).sum()),
        at=at,
    )


def _outcome(rows: Rows, at: int) -> tuple[str, str | None]:
    if rows.certified[at]:
        return ("right" if rows.right[at] else "wrong"), None
    return ("invalid" if rows.outcome[at] == "invalid" else "abstained"), str(rows.reason[at])


def _population(good: NDArray[np.bool_], rows: Rows, confidence: float) -> Population:
    return _of(int(good.sum()), len(rows), rows.about.alpha, confidence)


def _of(count: int, images: int, alpha: float, confidence: float) -> Population:
    return Population(images=images, certified=count, alpha=alpha, confidence=confidence)


def _robust(population: Population) -> float:
    return math.floor(population.at_least * _DIGITS) / _DIGITS
