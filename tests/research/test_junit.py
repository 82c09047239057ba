"""JUnit's XML is whole, well formed, and says what passed."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from certify.service.research.junit import Case, write_junit


def test_what_xml_cannot_hold_is_replaced_and_the_rest_escaped(tmp_path: Path) -> None:
    cases = [
        Case(name="class \x00<&>", passed=True, kind="pass", said="fine"),
        Case(name="b", passed=False, kind="undecided", said='"why"\x1b'),
    ]
    write_junit(tmp_path / "j.xml", "suite", cases, facts={"a": 1}, seconds=1.25)
    suite = ElementTree.parse(tmp_path / "j.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("time")) == ("2", "1", "1.250")
    assert [case.get("name") for case in suite.iter("testcase")] == ["class ?<&>", "b"]
    failure = suite.find("testcase/failure")
    assert failure is not None and failure.attrib == {"type": "undecided", "message": '"why"?'}
