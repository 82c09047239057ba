"""junit.xml: a suite for each class, the worst first, and a test for each image, so that a CI server shows which ones
changed from one release to the next.

A wrong certificate is a failure, an abstention is skipped. Whether a release passes is for `certify gate` to say.
There is no one schema of such files: this keeps to what Jenkins' (which pytest's follows), Ant's and GitLab's share.
"""

from __future__ import annotations

from xml.etree import ElementTree

from .figures import Rows
from .schemas import ClassFigures, Report

__all__ = ("as_junit",)


def as_junit(report: Report, rows: Rows) -> bytes:
    """UTF-8, with its declaration."""
    root = ElementTree.Element("testsuites")
    for number, figures in enumerate(report.classes):
        root.append(_suite(number, figures, report, rows))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _suite(number: int, figures: ClassFigures, report: Report, rows: Rows) -> ElementTree.Element:
    mine = [at for at in range(len(rows)) if rows.label[at] == figures.index]
    seconds = sum(_seconds(rows, at) for at in mine)
    suite = ElementTree.Element(
        "testsuite",
        id=str(number),
        name=figures.name,
        package=report.model.bundle,
        timestamp=report.made_at.removesuffix("Z"),
        hostname="localhost",
        tests=str(len(mine)),
        failures=str(figures.wrong),
        errors="0",
        skipped=str(figures.abstained),
        time=f"{seconds:.3f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    for at, radius in zip(figures.at, report.radii, strict=True):
        share = at.certified
        value = f"{share.share:.4f} [{share.lower:.4f}, {share.upper:.4f}]"
        ElementTree.SubElement(properties, "property", name=f"certified accuracy at {radius.radius:g}", value=value)
    for at in mine:
        suite.append(_case(at, figures.name, report, rows))
    ElementTree.SubElement(suite, "system-out")
    ElementTree.SubElement(suite, "system-err")
    return suite


def _case(at: int, name: str, report: Report, rows: Rows) -> ElementTree.Element:
    idx = int(rows.idx[at])
    case = ElementTree.Element("testcase", classname=name, name=f"image {idx}", time=f"{_seconds(rows, at):.3f}")
    if not rows.certified[at]:
        message = report.data.invalid.get(idx) or rows.reason[at] or "abstained"
        ElementTree.SubElement(case, "skipped", message=message)
    elif not rows.right[at]:
        other = report.model.classes[int(rows.predict[at])]
        message = f"certified as {other} within {rows.radius[at]:.6f}"
        ElementTree.SubElement(case, "failure", type="wrong", message=message)
    return case


def _seconds(rows: Rows, at: int) -> float:
    return 0.0 if rows.seconds is None else float(rows.seconds[at])
