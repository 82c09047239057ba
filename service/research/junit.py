"""JUnit's XML, which every CI reads: a case for each thing that was checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from ...models.files import whole_file

__all__ = ("Case", "write_junit")

# What XML 1.0 cannot hold, however it is escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True)
class Case:
    """passed: it holds. failure: it does not. error: nobody knows. said: in a sentence."""

    name: str
    outcome: Literal["passed", "failure", "error"]
    kind: str  # of a failure or an error, in a word
    said: str


def write_junit(path: Path, suite: str, cases: Sequence[Case], *, facts: Mapping[str, object], seconds: float) -> None:
    """Whole or not at all. facts become the suite's properties. Raises DataError where it cannot be written."""
    count = {outcome: sum(case.outcome == outcome for case in cases) for outcome in ("failure", "error")}
    attributes = {
        "name": suite,
        "tests": str(len(cases)),
        "failures": str(count["failure"]),
        "errors": str(count["error"]),
        "skipped": "0",
        "time": f"{seconds:.3f}",
    }
    whole = ElementTree.Element("testsuites")
    element = ElementTree.SubElement(whole, "testsuite", attributes)
    properties = ElementTree.SubElement(element, "properties")
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", name=_text(name), value=_text(value))
    for case in cases:
        one = ElementTree.SubElement(element, "testcase", classname=suite, name=_text(case.name), time="0.000")
        if case.outcome == "passed":
            ElementTree.SubElement(one, "system-out").text = _text(case.said)
        else:
            found = ElementTree.SubElement(one, case.outcome, type=case.kind, message=_text(case.said))
            found.text = _text(case.said)
    ElementTree.indent(whole)
    with whole_file(path) as fresh:
        ElementTree.ElementTree(whole).write(fresh, encoding="utf-8", xml_declaration=True)


def _text(value: object) -> str:
    return _NOT_XML.sub("?", str(value))
