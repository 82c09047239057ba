"""junit.xml: a suite for each class, the worst first, and a test for each image, so that a CI server shows which ones
changed from one release to the next.

A wrong certificate is a failure, an abstention is skipped. Whether a release passes is for `certify gate` to say.
"""

from __future__ import annotations

import numpy as np

from ..junit import Case, Suite, junit_xml
from .figures import Rows
from .schemas import ClassFigures, Report

__all__ = ("as_junit",)


def as_junit(report: Report, rows: Rows) -> bytes:
    return junit_xml([_suite(number, figures, report, rows) for number, figures in enumerate(report.classes)])


def _suite(number: int, figures: ClassFigures, report: Report, rows: Rows) -> Suite:
    mine = np.flatnonzero(rows.label == figures.index).tolist()
    facts = {
        f"certified accuracy at {radius.radius:.10g}": f"{at.certified.share:.4f} "
        f"[{at.certified.lower:.4f}, {at.certified.upper:.4f}]"
        for at, radius in zip(figures.at, report.radii, strict=True)
    }
    attributes = {
        "id": str(number),
        "package": report.model.bundle,
        "timestamp": report.made_at.removesuffix("Z"),
        "hostname": "localhost",
    }
    return Suite(
        name=figures.name,
        cases=[_case(at, report, rows) for at in mine],
        facts=facts,
        seconds=float(np.nan_to_num(rows.seconds[mine]).sum()),
        attributes=attributes,
    )


def _case(at: int, report: Report, rows: Rows) -> Case:
    idx, seconds = int(rows.idx[at]), float(np.nan_to_num(rows.seconds[at]))
    name = f"image {idx}"
    if not rows.certified[at]:
        said = report.data.invalid.get(idx) or str(rows.reason[at])
        return Case(name=name, passed=False, skipped=True, kind=str(rows.outcome[at]), said=said, seconds=seconds)
    if rows.right[at]:
        return Case(name=name, passed=True, seconds=seconds)
    said = f"certified as {report.model.classes[int(rows.predict[at])]} within {rows.radius[at]:.6f}"
    return Case(name=name, passed=False, kind="wrong", said=said, seconds=seconds)
