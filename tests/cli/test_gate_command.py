"""`certify gate` as CI uses it: exit codes, one line, JUnit, going on, and data that try to fool it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from certify.service.research.gate_policy import read_policy
from certify.service.research.tables import read_table
from tests import pictures
from tests.cli.test_cli import certify
from tests.servers import ROOT, real_process

FAKE = ("--backend=fake", "--seed=1")
ASKED = ("--radius=0.1", "--samples=640")


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, list[tuple[int, bytes]]]:
    """Images by whether the fake backend certifies them at .1, each with the class that it says."""
    place = tmp_path_factory.mktemp("predicted")
    folder = place / "data" / "0"
    folder.mkdir(parents=True)
    for number in range(120):
        (folder / f"{number:03}.png").write_bytes(pictures.png(number))
    assert certify("dataset", folder.parent, "--out", place / "t.tsv", *FAKE, *ASKED)[0] == 0
    table = read_table(place / "t.tsv")
    assert table.outcome is not None
    found: dict[bool, list[tuple[int, bytes]]] = {True: [], False: []}
    for number, label, outcome in zip(table.idx.tolist(), table.predict.tolist(), table.outcome, strict=True):
        found[outcome == "certified"].append((max(label, 0), (folder / f"{number:03}.png").read_bytes()))
    assert len(found[True]) >= 60 and len(found[False]) >= 10
    return found


def folder_of(place: Path, images: list[tuple[int, bytes]]) -> Path:
    for number, (label, content) in enumerate(images):
        (place / str(label)).mkdir(parents=True, exist_ok=True)
        (place / str(label) / f"{number:03}.png").write_bytes(content)
    return place


@pytest.fixture
def good(tmp_path: Path, predicted) -> Path:
    """60 images that are all certified, with their right labels."""
    return folder_of(tmp_path / "good", predicted[True][:60])


@pytest.fixture
def bad(tmp_path: Path, predicted) -> Path:
    """60 images of which none is certified with its label."""
    return folder_of(tmp_path / "bad", [((label + 1) % 10, content) for label, content in predicted[True][:60]])


def gate(data: Path, *arguments: str | Path) -> tuple[int, str, str]:
    return certify("gate", data, *FAKE, *ASKED, *arguments)


def test_it_passes_what_is_certified_and_stops_early(good: Path, tmp_path: Path) -> None:
    code, out, err = gate(good, "--at-least=0.6", "--out", tmp_path / "g.tsv", "--junit", tmp_path / "g.xml")
    assert code == 0, err
    assert out.count("\n") == 1 and out.startswith(
        "pass: fake: at least 0.6 of all inputs are certified at l2 radius 0.1"
    )
    rows = read_table(tmp_path / "g.tsv")
    assert 10 < len(rows) < 60
    facts = json.loads((tmp_path / "g.tsv.json").read_text())
    assert facts["result"]["verdict"] == "pass" and facts["result"]["images"] == len(rows)
    assert facts["gate"]["order_seed"] == 1 and facts["result"]["requirements"][0]["lower_bound"] >= 0.6


def test_it_fails_what_is_not(bad: Path, tmp_path: Path) -> None:
    code, out, _ = gate(bad, "--at-least=0.6", "--junit", tmp_path / "g.xml")
    assert code == 1 and out.startswith(
        "fail: fake: fewer than 0.6 of all inputs are certified at l2 radius 0.1 (0 of "
    )
    suite = ElementTree.parse(tmp_path / "g.xml").getroot()[0]
    assert suite.attrib | {"time": ""} == {
        "name": "certify gate", "tests": "1", "failures": "1", "errors": "0", "skipped": "0", "time": "",
    }  # fmt: skip
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert properties["order_seed"] == "1" and properties["at_least"] == "0.6" and properties["alpha"] == "0.001"
    assert properties["data_digest"].startswith("sha256:") and properties["bundle"] == "fake"
    assert suite.find("testcase/failure").get("type") == "fail"


def test_it_says_how_many_more_images_would_tell(tmp_path: Path, predicted) -> None:
    images = [*predicted[True][:14], *((label + 1, content) for label, content in predicted[True][14:18])]
    data = folder_of(tmp_path / "mixed", [(label % 10, content) for label, content in images])
    code, out, _ = gate(data, "--at-least=0.6", "--junit", tmp_path / "g.xml")
    assert code == 2 and "more images like these would tell" in out
    more = int(out.split("about ")[1].split()[0])
    assert 5 < more < 400
    suite = ElementTree.parse(tmp_path / "g.xml").getroot()[0]
    assert suite.get("failures") == "1" and suite.find("testcase/failure").get("type") == "undecided"


def test_a_sorted_file_does_not_fool_it(tmp_path: Path, predicted) -> None:
    """The first 40 images are certified, the last 60 are not; in the file's order it would have passed."""
    wrong = [((label + 1) % 10, content) for label, content in predicted[True][:60]]
    data = tmp_path / "sorted"
    data.mkdir()
    lines = ["filename,label"]
    for number, (label, content) in enumerate([*predicted[True][60:][:20], *wrong]):
        (data / f"{number:03}.png").write_bytes(content)
        lines.append(f"{number:03}.png,{label}")
    (data / "labels.csv").write_text("\n".join(lines) + "\n")
    code, out, err = gate(data, "--at-least=0.5", "--confidence=0.8", "--out", tmp_path / "g.tsv")
    assert code == 1, out + err
    drawn = read_table(tmp_path / "g.tsv").idx.tolist()
    assert drawn != sorted(drawn)


def test_equal_files_count_once(tmp_path: Path, predicted) -> None:
    data = folder_of(tmp_path / "copies", predicted[True][:1] * 50)
    code, out, err = gate(data, "--at-least=0.5")
    assert code == 2 and "files left out, each with the bytes of another: 49" in err
    assert "(1 of 1 images, each file once, " in out


def test_the_seed_alone_decides_the_order_and_it_is_random_unless_given(good: Path, tmp_path: Path) -> None:
    def order(name: str, *arguments: str) -> list[int]:
        certify("gate", good, "--backend=fake", *ASKED, "--at-least=0.6", "--out", tmp_path / name, *arguments)
        return read_table(tmp_path / name).idx.tolist()

    assert order("a", "--seed=5") == order("b", "--seed=5", "--jobs=3") != order("c", "--seed=6")
    assert order("d") != order("e")


def test_it_goes_on_where_it_was_cut_off_and_another_gate_does_not(good: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.tsv", tmp_path / "cut.tsv"
    assert gate(good, "--at-least=0.6", "--out", whole)[0] == 0
    lines = whole.read_text().splitlines(keepends=True)
    cut.write_text("".join(lines[:6]) + lines[6][:9])
    shutil.copy(tmp_path / "whole.tsv.json", tmp_path / "cut.tsv.json")
    code, out, err = certify("gate", good, "--backend=fake", *ASKED, "--at-least=0.6", "--out", cut)
    assert code == 0 and "going on after 5 rows" in err
    assert [line.split("\t")[:5] for line in cut.read_text().splitlines()] == [line.split("\t")[:5] for line in lines]
    for other in ("--at-least=0.5", "--confidence=0.9", "--radius=0.05"):
        code, _, err = certify(
            "gate", good, *FAKE, "--samples=640", "--radius=0.1", "--at-least=0.6", "--out", cut, other
        )
        assert code == 3 and "name another --out" in err
    again = certify("gate", good, *FAKE, *ASKED, "--at-least=0.6", "--out", cut)
    assert again[0] == 0 and again[1] == out  # nothing is drawn: it was decided


@pytest.mark.slow
def test_a_gate_that_is_killed_gives_the_verdict_of_one_that_is_not(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "g.tsv"
    command = [
        sys.executable, "-m", "certify", "gate", str(good), *FAKE, *ASKED, "--at-least=0.6", "--out", str(out),
    ]  # fmt: skip
    slow = {"CERTIFY_FAKE_DELAY_SECONDS": "0.02", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not out.exists() or out.read_text().count("\n") < 5:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 4 <= len(read_table(out)) < 20
    assert gate(good, "--at-least=0.6", "--out", out)[:2] == gate(good, "--at-least=0.6")[:2]


@pytest.mark.slow
def test_it_asks_a_service(good: Path, bad: Path, tmp_path: Path) -> None:
    with real_process(tmp_path / "log") as service:
        arguments = ("--url", service.url, *ASKED, "--at-least=0.6", "--jobs=2")
        code, out, err = certify("gate", good, *arguments, "--out", tmp_path / "g.tsv")
        assert code == 0 and out.startswith("pass: fake"), err
        assert certify("gate", bad, *arguments)[0] == 1
        code, _, err = certify("gate", good, *arguments, "--backend=fake")
        assert code == 3 and "--backend: expected none beside --url" in err
    facts = json.loads((tmp_path / "g.tsv.json").read_text())
    assert facts["url"] == service.url and facts["alpha"] == "0.001"


def test_a_class_that_is_bad_fails_a_gate_that_the_rest_passes(tmp_path: Path, predicted) -> None:
    pytest.importorskip("yaml")
    first = predicted[True][0][0]
    moved = [((label + 1) % 10 if label == first else label, content) for label, content in predicted[True]]
    data = folder_of(tmp_path / "data", moved)
    receiving = str((first + 1) % 10)
    policy = tmp_path / "gate.yaml"
    policy.write_text(f'radius: 0.1\nat_least: 0.05\nconfidence: 0.8\nclasses: {{"{receiving}": 0.9}}\n')
    code, out, err = certify("gate", data, *FAKE, "--samples=640", "--policy", policy, "--junit", tmp_path / "g.xml")
    assert code == 1 and f"fewer than 0.9 of class {receiving} are certified" in out, err
    cases = [case.get("name") for case in ElementTree.parse(tmp_path / "g.xml").iter("testcase")]
    assert cases == [
        "all inputs: at least 0.05 certified at l2 radius 0.1",
        f"class {receiving}: at least 0.9 certified at l2 radius 0.1",
    ]
    code, out, _ = certify("gate", data, *FAKE, *ASKED, "--at-least=0.05", "--class-at-least=0.9", "--confidence=0.8")
    assert code == 1 and "class" in out


def test_classes_that_the_images_lack_are_said(tmp_path: Path, predicted) -> None:
    label = predicted[True][0][0]
    data = folder_of(tmp_path / "one", [each for each in predicted[True] if each[0] == label])
    code, out, err = gate(data, "--at-least=0.1", "--class-at-least=0.1", "--confidence=0.5")
    assert code == 0, out + err
    assert ", and each of 1 classes (these images have none of the other 9) (" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--at-least=0.6", "--colour"], "No such option"),
        (["--at-least=many"], "Invalid value for '--at-least'"),
        ([], "at_least: expected --at-least, or in a --policy file"),
        (["--at-least=1.5"], "at_least: expected a number above 0 and below 1, got 1.5"),
        (["--at-least=0.6", "--confidence=1"], "confidence: expected a number above 0"),
        (["--at-least=0.6", "--max-images=0"], "max_images: expected at least 1"),
        (["--at-least=0.6", "--part=train"], "part: expected none"),
        (["--at-least=0.6", "--samples=32"], "samples: expected at least"),
        (["--at-least=0.6", "--alpha=0.5"], "alpha"),
    ],
)
def test_what_cannot_run_is_no_verdict(arguments: list[str], said: str, good: Path, tmp_path: Path) -> None:
    code, out, err = gate(good, *arguments)
    assert code == 3 and said in err and not out


def test_a_fault_is_no_verdict_and_junit_says_so(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from certify.service.cli import gate as module

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(module, "draw_images", broken)
    code, out, err = gate(good, "--at-least=0.6", "--junit", tmp_path / "g.xml")
    assert code == 3 and "a fault of ours" in err and not out
    case = ElementTree.parse(tmp_path / "g.xml").getroot()[0].find("testcase/failure")
    assert case is not None and case.get("type") == "cannot_run"


def test_an_interruption_is_no_verdict(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from certify.service.cli import gate as module

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "draw_images", interrupted)
    assert gate(good, "--at-least=0.6")[0] == 3


def test_the_example_of_a_release_asks_for_what_there_is() -> None:
    yaml = pytest.importorskip("yaml")
    assert read_policy(ROOT / "examples/ci/gate.yaml", {}).at_least == 0.85
    workflow = yaml.safe_load((ROOT / "examples/ci/release-gate.yml").read_text())
    (command,) = [step["run"] for step in workflow["jobs"]["gate"]["steps"] if step.get("name") == "Gate"]
    code, out, _ = certify("gate", "--help")
    flags = [word for word in command.split() if word.startswith("--")]
    assert code == 0 and command.startswith("certify gate digits") and all(flag in out for flag in flags)
