"""JUnit's XML, which every CI reads: a case for each thing that was checked.

There is no one schema of such files: this keeps to what Jenkins' (pytest follows it), Ant's and GitLab's share.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from ...models.files import whole_file

__all__ = ("Case", "Suite", "junit_xml", "write_junit")

# What XML 1.0 cannot hold, however it is escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True)
class Case:
    """passed: it holds. failure: it does not. error: nobody knows. skipped: nothing was said. said: in words."""

    name: str
    outcome: Literal["passed", "failure", "error", "skipped"]
    kind: str = ""  # of a failure or an error, in a word
    said: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Suite:
    name: str
    cases: Sequence[Case]
    facts: Mapping[str, object]  # its properties
    seconds: float
    attributes: Mapping[str, str] = field(default_factory=dict)  # more of them


def write_junit(path: Path, suite: str, cases: Sequence[Case], *, facts: Mapping[str, object], seconds: float) -> None:
    """One suite, whole or not at all. Raises DataError where it cannot be written."""
    with whole_file(path) as fresh:
        fresh.write_bytes(junit_xml([Suite(name=suite, cases=cases, facts=facts, seconds=seconds)]))


def junit_xml(suites: Sequence[Suite]) -> bytes:
    """UTF-8, with its declaration."""
    whole = ElementTree.Element("testsuites")
    for suite in suites:
        _add(whole, suite)
    ElementTree.indent(whole)
    return ElementTree.tostring(whole, encoding="utf-8", xml_declaration=True) + b"\n"


def _add(whole: ElementTree.Element, suite: Suite) -> None:
    count = Counter(case.outcome for case in suite.cases)
    attributes = {
        **suite.attributes,
        "name": suite.name,
        "tests": str(len(suite.cases)),
        "failures": str(count["failure"]),
        "errors": str(count["error"]),
        "skipped": str(count["skipped"]),
        "time": f"{suite.seconds:.3f}",
    }
    element = ElementTree.SubElement(whole, "testsuite", {name: _text(value) for name, value in attributes.items()})
    properties = ElementTree.SubElement(element, "properties")
    for name, value in suite.facts.items():
        ElementTree.SubElement(properties, "property", name=_text(name), value=_text(value))
    for case in suite.cases:
        named = {"classname": _text(suite.name), "name": _text(case.name), "time": f"{case.seconds:.3f}"}
        one = ElementTree.SubElement(element, "testcase", named)
        if case.outcome != "passed":
            kind = {"type": _text(case.kind)} if case.kind else {}
            ElementTree.SubElement(one, case.outcome, kind, message=_text(case.said)).text = _text(case.said)
        elif case.said:
            ElementTree.SubElement(one, "system-out").text = _text(case.said)


def _text(value: object) -> str:
    return _NOT_XML.sub("?", str(value))
