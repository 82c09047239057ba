"""report.html in a real Chromium, opened from the disk."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.audit.folders import HOSTILE, TEN, about, dataset, report, table
from tests.audit.test_forms import cells
from tests.browser import needs_chromium, run_in_chromium

pytest.importorskip("cyclonedx", reason="reports need certify[audit]")
pytest.importorskip("matplotlib", reason="reports need certify[audit]")
pytestmark = needs_chromium()

Seen = tuple[dict[str, Any], dict[str, Any], bytes]  # by the browser, in report.json, the PDF


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A report with hostile names, and three times as many rows as paper has room for on a page."""
    place = tmp_path_factory.mktemp("audit")
    rows = TEN * 3
    names = [HOSTILE, "one", f"{HOSTILE * 4}", "three"]
    table(place / "report", rows, about=about(classes=names, bundle=HOSTILE).model_dump(mode="json"), x=HOSTILE)
    found = report(place / "report", rows, dataset(rows, name=HOSTILE, skipped={HOSTILE: 1}))
    settings = {"file": str(place / "report" / "report.html"), "pdf": str(place / "a.pdf")}
    # PICTURE=docs/pictures/x.png keeps what it looks like.
    settings |= {"shot": os.environ["PICTURE"]} if "PICTURE" in os.environ else {}
    shown = run_in_chromium(Path(__file__).with_name("report.mjs"), settings, place / "program")
    return shown, found, (place / "a.pdf").read_bytes()


def test_it_asks_for_nothing_but_itself(seen: Seen) -> None:
    shown, _, _ = seen
    (asked,) = shown["asked"]
    assert asked.startswith("file://") and shown["errors"] == []
    assert len(shown["pictures"]) > 8 and min(shown["pictures"]) == 8  # they are in it


def test_it_shows_the_figures_of_report_json(seen: Seen) -> None:
    shown, found, _ = seen
    radii, classes = cells(found)
    assert shown["tables"]["radii"] == radii and shown["tables"]["classes"] == classes


def test_axe_finds_nothing(seen: Seen) -> None:
    shown, _, _ = seen
    assert shown["violations"] == [] and shown["passes"] > 15


def test_it_fits_a_phone_and_prints_on_a4(seen: Seen) -> None:
    shown, _, pdf = seen
    assert shown["phone"] == [] and shown["paper"] == []
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert boxes and all((round(float(w)), round(float(h))) == (595, 842) for w, h in boxes)
