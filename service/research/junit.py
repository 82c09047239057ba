"""JUnit's XML, which every CI reads: a case for each thing that was checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ...models.files import whole_file

__all__ = ("Case", "write_junit")

# What XML 1.0 cannot hold, however it is escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What does not pass is a failure, whatever its kind: the schema that Jenkins and pytest share has no `error`."""

    name: str
    passed: bool
    kind: str  # in a word: why it did not pass
    said: str  # in a sentence


def write_junit(path: Path, suite: str, cases: Sequence[Case], *, facts: Mapping[str, object], seconds: float) -> None:
    """Whole or not at all. facts become the suite's properties. Raises DataError where it cannot be written."""
    attributes = {
        "name": suite,
        "tests": str(len(cases)),
        "failures": str(sum(not case.passed for case in cases)),
        "errors": "0",
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
        if case.passed:
            ElementTree.SubElement(one, "system-out").text = _text(case.said)
        else:
            ElementTree.SubElement(one, "failure", type=case.kind, message=_text(case.said))
    ElementTree.indent(whole)
    with whole_file(path) as fresh:
        ElementTree.ElementTree(whole).write(fresh, encoding="utf-8", xml_declaration=True)


def _text(value: object) -> str:
    return _NOT_XML.sub("?", str(value))
