"""JUnit's XML, which every CI reads: a case for each thing that was checked.

There is no one schema of such files: this keeps to what Jenkins' (pytest follows it), Ant's and GitLab's share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from ...models.files import whole_file

__all__ = ("Case", "Suite", "junit_xml", "write_junit")

# What XML 1.0 cannot hold, however it is escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What does not pass is a failure, whatever its kind: the schema that Jenkins and pytest share has no `error`."""

    name: str
    passed: bool
    kind: str = ""  # in a word: why it did not pass
    said: str = ""  # in a sentence
    skipped: bool = False  # neither: nothing was claimed
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
    content: bytes = ElementTree.tostring(whole, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _add(whole: ElementTree.Element, suite: Suite) -> None:
    found = [_element(case) for case in suite.cases]
    attributes = {
        **suite.attributes,
        "name": suite.name,
        "tests": str(len(suite.cases)),
        "failures": str(found.count("failure")),
        "errors": "0",
        "skipped": str(found.count("skipped")),
        "time": f"{suite.seconds:.3f}",
    }
    element = ElementTree.SubElement(whole, "testsuite", {name: _text(value) for name, value in attributes.items()})
    properties = ElementTree.SubElement(element, "properties")
    for name, value in suite.facts.items():
        ElementTree.SubElement(properties, "property", name=_text(name), value=_text(value))
    for case, kind in zip(suite.cases, found, strict=True):
        named = {"classname": _text(suite.name), "name": _text(case.name), "time": f"{case.seconds:.3f}"}
        one = ElementTree.SubElement(element, "testcase", named)
        if kind is not None:
            ElementTree.SubElement(one, kind, type=_text(case.kind), message=_text(case.said))
        elif case.said:
            ElementTree.SubElement(one, "system-out").text = _text(case.said)


def _element(case: Case) -> str | None:
    return "skipped" if case.skipped else None if case.passed else "failure"


def _text(value: object) -> str:
    return _NOT_XML.sub("?", str(value))
