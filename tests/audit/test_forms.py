"""The report's forms: the same figures in each, valid for those who read them, and names are but text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from certify.service.research.audit.schemas import Report
from certify.service.research.audit.texts import in_markdown, shown
from tests import pictures
from tests.audit.folders import HOSTILE, TEN, about, dataset, report, table
from tests.servers import ROOT

pytest.importorskip("cyclonedx", reason="reports need certify[audit]")
pytest.importorskip("matplotlib", reason="reports need certify[audit]")

SCHEMA = ROOT / "docs" / "audit.schema.json"
# An element of them that a name has smuggled in is told by its absence here.
ELEMENTS = set(
    "bdi body caption code dd div dl dt figcaption figure h1 h2 h3 head header html img li main meta p"
    " pre span style table tbody td th thead title tr ul svg metadata defs g path use clippath rect text tspan"
    " rdf:rdf cc:work".split()
)


class Page(HTMLParser):
    """Tables by id as rows of cells' text, tags, attributes, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._rows: list[list[str]] = []
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag == "table":
            self._rows = self.tables.setdefault(dict(attrs)["id"] or "", [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
            self._in_cell = True

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self._rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")


def share(figures: dict[str, Any]) -> list[str]:
    """As cells show it."""
    return [
        str(figures["of"]), str(figures["count"]), f"{figures['share']:.4f}",
        f"{figures['lower']:.4f} to {figures['upper']:.4f}",
    ]  # fmt: skip


def cells(found: dict[str, Any]) -> tuple[list[list[str]], list[list[str]]]:
    """What the tables of radii and of classes hold, as report.json says."""
    place = [at["radius"] for at in found["radii"]].index(found["class_radius"])
    radii = [
        [f"{at['radius']:g}", *share(at["certified"]), f"{at['robust']:.4f}", str(at["wrong"])] for at in found["radii"]
    ]
    classes = [
        [
            each["name"], *share(each["at"][place]["certified"]), f"{each['at'][place]['robust']:.4f}",
            str(each["wrong"]), str(each["abstained"]),
        ]
        for each in found["classes"]
    ]  # fmt: skip
    return radii, classes


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder whose every name from outside is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    names = [HOSTILE, "one", f"{HOSTILE}2", "three"]
    beside = about(classes=names, bundle=HOSTILE).model_dump(mode="json")
    table(folder, TEN, about=beside, invalid={"9": f"{HOSTILE}.png: cannot be read"}, resize=HOSTILE)
    data = dataset(TEN, name=HOSTILE, split=HOSTILE, skipped={HOSTILE: 3})
    return folder, report(folder, data=data, repeat=f"certify audit '{HOSTILE}'")


def test_the_page_has_the_figures_of_report_json(tmp_path: Path) -> None:
    table(tmp_path, TEN)
    radii, classes = cells(report(tmp_path))
    page = Page((tmp_path / "report.html").read_text())
    assert page.tables["radii"][1:] == radii and page.tables["classes"][1:] == classes


def test_markdown_has_the_figures_of_report_json(tmp_path: Path) -> None:
    table(tmp_path, TEN)
    lines = (tmp_path / "report.md").read_text().splitlines() if report(tmp_path) else []
    found = json.loads((tmp_path / "report.json").read_text())
    for row in (row for rows in cells(found) for row in rows):
        assert "| " + " | ".join(row) + " |" in lines


def test_the_page_asks_for_nothing(tmp_path: Path) -> None:
    table(tmp_path, TEN)
    report(tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert "script" not in page.tags and "link" not in page.tags
    asking = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset", "action")]
    assert len(asking) > 5 and all((value or "").startswith(("data:image/png;base64,", "#")) for value in asking)
    html = (tmp_path / "report.html").read_text()
    assert not re.search(r"url\((?!#)", html) and "@import" not in html


def test_what_is_not_whole_or_counted_once_is_said(tmp_path: Path) -> None:
    table(tmp_path, TEN, shard=(1, 2))
    report(tmp_path, data=dataset(TEN, read=lambda position: pictures.png(position // 4)), shards=2)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "2 images are the same files as others" in text and "5 of 10 images" in text and "2/2" in text


def test_without_images_no_picture_is_in_it(tmp_path: Path) -> None:
    table(tmp_path, TEN)
    report(tmp_path, images=False)
    assert "data:image" not in (tmp_path / "report.html").read_text()


def test_hostile_names_are_text_on_the_page(hostile: tuple[Path, dict[str, Any]]) -> None:
    folder, found = hostile
    page = Page((folder / "report.html").read_text())
    assert page.tags <= ELEMENTS, page.tags - ELEMENTS
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.tables["classes"][1:] == cells(found)[1]
    assert shown(HOSTILE) in page.text and "{{ 7*7 }}" in page.text
    assert all(each.isprintable() or each == "\n" for each in page.text)


def test_hostile_names_are_text_in_markdown(hostile: tuple[Path, dict[str, Any]]) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    folder, _ = hostile
    html = markdown_it.MarkdownIt("commonmark").enable(["table"]).render((folder / "report.md").read_text())
    page = Page(html.replace("<table>", '<table id="all">'))
    assert not page.tags & {"img", "a", "script"} and page.text.count(shown(HOSTILE)) >= 5
    row = next(row for row in page.tables["all"] if row[0] == shown(HOSTILE))
    assert len(row) == 8


def test_junit_is_valid_and_says_of_each_image_what_became_of_it(hostile: tuple[Path, dict[str, Any]]) -> None:
    xmlschema = pytest.importorskip("xmlschema")
    folder, found = hostile
    xmlschema.XMLSchema(ROOT / "tests" / "audit" / "junit-10.xsd").validate(folder / "junit.xml")
    root = ElementTree.parse(folder / "junit.xml").getroot()
    suites = {suite.attrib["name"]: suite for suite in root}
    assert list(suites) == [each["name"] for each in found["classes"]]
    counts = {name: [int(s.attrib[k]) for k in ("tests", "failures", "skipped")] for name, s in suites.items()}
    assert counts == {shown(HOSTILE): [4, 0, 0], "one": [4, 2, 0], f"{shown(HOSTILE)}2": [2, 0, 2]}
    said = {case.attrib["name"]: [child.tag for child in case] for suite in root for case in suite.iter("testcase")}
    assert said["image 3"] == [] and said["image 6"] == ["failure"] and said["image 8"] == ["skipped"]
    unusable = next(case for case in root.iter("testcase") if case.attrib["name"] == "image 9")
    assert unusable[0].attrib["message"] == f"{shown(HOSTILE)}.png: cannot be read"


def test_the_bill_of_materials_is_valid_and_has_the_figures(hostile: tuple[Path, dict[str, Any]]) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    folder, found = hostile
    text = (folder / "model.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    component = json.loads(text)["metadata"]["component"]
    assert component["type"] == "machine-learning-model" and component["hashes"][0]["content"] == "b" * 64
    metrics = {(m["type"], m["slice"]): m for m in component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    for at, radius in enumerate(("0", "0.25", "0.5")):
        name = f"certified accuracy at L2 radius {radius}"
        wanted = [("all images", found["radii"][at]["certified"])]
        wanted += [(f"class {each['name']}", each["at"][at]["certified"]) for each in found["classes"]]
        for part, figures in wanted:
            metric = metrics[name, f"{part}, n = {figures['of']}"]
            bounds = metric["confidenceInterval"]
            said = [metric["value"], bounds["lowerBound"], bounds["upperBound"]]
            assert said == [f"{figures[key]:.4f}" for key in ("share", "lower", "upper")]


def test_report_json_is_as_its_schema_says(hostile: tuple[Path, dict[str, Any]]) -> None:
    _, found = hostile
    schema = json.loads(SCHEMA.read_text())
    write = "json.dumps(Report.model_json_schema(), indent=2)"
    assert schema == Report.model_json_schema(), f"{SCHEMA}: write it anew, from {write}"
    jsonschema.validate(found, schema)
    assert all(each.isprintable() for text in found["says"] for each in text)


def test_equal_rows_give_equal_files_but_for_the_time(tmp_path: Path) -> None:
    texts = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        table(folder, TEN)
        made = report(folder)["made_at"]
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("rows"))
        assert [path.name for path in files] == [
            "junit.xml", "model.cdx.json", "report.html", "report.json", "report.md",
        ]  # fmt: skip
        texts.append([path.read_text().replace(made.removesuffix("Z"), "") for path in files])
    assert texts[0] == texts[1]


@pytest.mark.parametrize("text", [HOSTILE, "plain", "é", "a\tb", "\x85", "＜script＞", "# a", "- a", "1. a", "www.a.b"])
def test_a_name_is_shown_on_one_line_and_marks_nothing(text: str) -> None:
    assert shown(text).isprintable() and shown(shown(text)) == shown(text)
    assert re.sub(r"\\(.)", r"\1", in_markdown(text)) == shown(text)
