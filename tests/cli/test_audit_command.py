"""`certify audit`: rows as `certify dataset` has them, and a report that a kill changes nothing of."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from certify.service.research.audit.report import check_ready
from certify.service.research.tables import read_table
from tests import pictures
from tests.cli.test_cli import certify
from tests.servers import ROOT, real_process

pytest.importorskip("cyclonedx", reason="reports need certify[audit]")
pytest.importorskip("matplotlib", reason="reports need certify[audit]")

FAKE = ("--backend=fake", "--seed=1", "--samples=640")
FORMS = ["junit.xml", "model.cdx.json", "report.html", "report.json", "report.md"]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Twelve images of three of the fake backend's classes."""
    return str(pictures.class_folders(tmp_path / "data", images=12, classes=3))


def audit(folder: str, out: Path, *arguments: str) -> dict[str, Any]:
    code, _, err = certify("audit", folder, "--out", out, *arguments)
    assert code == 0, err
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "made_at": "", "cost": {**found["cost"], "seconds": 0}}


def text_without_times(path: Path, found: dict[str, Any]) -> str:
    text = path.read_text().replace(found["made_at"].removesuffix("Z"), "")
    return re.sub(r'\btime="[0-9.]+"|[0-9.]+ seconds', "", text)


def test_an_audit_is_of_the_rows_that_dataset_writes(folder: str, tmp_path: Path) -> None:
    found = audit(folder, tmp_path / "a", *FAKE, "--radius=0,0.1", "--confidence=0.9")
    code, _, err = certify("dataset", folder, "--out", tmp_path / "t.tsv", *FAKE)
    assert code == 0, err
    table, rows = read_table(tmp_path / "t.tsv"), read_table(tmp_path / "a" / "rows.tsv")
    assert table.radius.tolist() == rows.radius.tolist() and table.run == rows.run == found["run"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted([*FORMS, "rows.tsv", "rows.tsv.json"])
    right = table.correct & (table.radius >= 0.1)
    assert [at["radius"] for at in found["radii"]] == [0.0, 0.1] and found["confidence"] == 0.9
    assert found["radii"][1]["certified"]["count"] == right.sum() and found["data"]["images"] == 12
    assert found["model"]["samples"] == 640 and found["parameters"]["seed"] == 1
    assert found["certificates"] == 0


def test_equal_files_are_rows_and_count_once(folder: str, tmp_path: Path) -> None:
    picture = next(Path(folder).rglob("*.png"))
    shutil.copy(picture, picture.with_name("again.png"))
    code, _, err = certify("audit", folder, "--out", tmp_path / "a", *FAKE)
    assert code == 0 and "the report counts each file once: 12 in 13 rows" in err


def test_what_the_report_says_to_repeat_repeats_it(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = audit(folder, tmp_path / "a", *FAKE, "--no-images", "--threshold=0.6", "--limit=7")
    _, _, *words = found["repeat"].split()
    monkeypatch.chdir(tmp_path)
    code, _, err = certify("audit", *words)
    assert code == 0, err
    assert without_times(json.loads((tmp_path / "audit" / "report.json").read_text())) == without_times(found)


def test_shards_in_one_folder_make_the_report_of_the_whole(folder: str, tmp_path: Path) -> None:
    whole = audit(folder, tmp_path / "whole", *FAKE)
    for number in (3, 1, 2):
        joined = audit(folder, tmp_path / "parts", *FAKE, f"--shard={number}/3")
        assert joined["shards"]["missing"] == {3: ["1/3", "2/3"], 1: ["2/3"], 2: []}[number]
    changing = {"shards", "made_at", "cost"}
    assert {k: v for k, v in joined.items() if k not in changing} == {
        k: v for k, v in whole.items() if k not in changing
    }


def test_what_is_cropped_is_shown_as_it_was_certified(tmp_path: Path) -> None:
    folder = str(pictures.class_folders(tmp_path / "data", images=4, classes=2, size=(12, 10)))
    found = audit(folder, tmp_path / "a", *FAKE, "--resize=center-crop")
    assert [each["images"]["count"] for each in found["outcomes"] if each["outcome"] == "invalid"] in ([], [0])
    assert (
        "--resize=center-crop" in found["repeat"] and "data:image/png" in (tmp_path / "a" / "report.html").read_text()
    )


def test_certificates_are_there_where_there_is_a_key(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    assert certify("keys", "new", "--out", tmp_path / "key.pem")[0] == 0
    monkeypatch.setenv("CERTIFY_SIGNING_KEY_FILE", str(tmp_path / "key.pem"))
    found = audit(folder, tmp_path / "a", *FAKE, "--limit=3")
    signed = sorted((tmp_path / "a" / "certificates").iterdir())
    assert found["certificates"] == 3 and [path.name for path in signed] == ["0.json", "1.json", "2.json"]
    assert "application/vnd.certify" in signed[0].read_text()


def test_images_that_cannot_be_used_are_in_the_report(folder: str, tmp_path: Path) -> None:
    (Path(folder) / "0" / "3.png").write_bytes(b"no picture")
    found = audit(folder, tmp_path / "a", *FAKE)
    assert [each["images"]["count"] for each in found["outcomes"] if each["outcome"] == "invalid"] == [1]
    (wrong,) = found["data"]["invalid"].values()
    assert wrong.endswith("got UnidentifiedImageError: cannot identify image file")  # no place in memory
    assert wrong in (tmp_path / "a" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--radius=a"], "radius: expected numbers with commas between"),
        (["--confidence=1"], "confidence: expected a probability in (0, 1), got 1"),
        (["--norm=linf"], "norm: expected none"),
        (["--shard=3"], "shard: expected i/n"),
        (["--limit=0"], "limit: expected at least 1"),
    ],
)
def test_a_wrong_option_is_refused_and_nothing_is_written(
    arguments: list[str], message: str, folder: str, tmp_path: Path
) -> None:
    code, _, err = certify("audit", folder, "--out", tmp_path / "a", *FAKE, *arguments)
    assert code == 1 and message in err and not (tmp_path / "a").exists()


def test_out_is_a_folder(folder: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    code, _, err = certify("audit", folder, "--out", tmp_path / "a", *FAKE)
    assert code == 1 and "out: expected a folder, or none yet" in err


def test_what_is_not_installed_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from certify.service.errors import DataError
    from certify.service.research.audit import report

    check_ready()
    monkeypatch.setattr(report, "find_spec", lambda name: None if name == "jinja2" else object())
    with pytest.raises(
        DataError, match=r"expected Jinja2, to write the report with \(pip install 'certify\[audit\]'\)"
    ):
        check_ready()


@pytest.mark.slow
def test_kills_over_http_leave_the_report_of_a_run_without(tmp_path: Path) -> None:
    folder = str(pictures.class_folders(tmp_path / "data", images=60, classes=10))
    out = tmp_path / "killed"
    table = out / "rows.tsv"
    with real_process(tmp_path / "log", fake_delay_seconds=0.01) as service:
        arguments = ["--url", service.url, "--samples=640", "--jobs=4", "--radius=0,0.1,0.2"]
        command = [sys.executable, "-m", "certify", "audit", folder, "--out", str(out), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for rows in (15, 35):
            with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
                while process.poll() is None and (not table.exists() or len(table.read_bytes().split(b"\n")) < rows):
                    time.sleep(0.01)
                assert process.poll() is None
                process.send_signal(signal.SIGKILL)
            assert not (out / "report.json").exists()
        killed = audit(folder, out, *arguments)
        once = audit(folder, tmp_path / "once", *arguments)
    assert killed["data"]["rows"] == 60 and without_times(killed) == without_times(once)
    for name in FORMS:
        if name != "report.json":
            assert text_without_times(out / name, killed) == text_without_times(tmp_path / "once" / name, once)
