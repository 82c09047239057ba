"""What a run says beside its rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from certify.models.datasets import DataSet
from certify.service.research.run_notes import RunNotes
from certify.service.research.tables import facts_path, load_facts, save_facts

NUMBERED = DataSet(
    name="a", split="test", classes=("0", "1"), idx=(5, 6), labels=(1, 0), read=lambda position: b"", named=False
)  # fmt: skip


def notes(path: Path, data: DataSet = NUMBERED, run: str = "r", classes: tuple[str, ...] = ("cat", "dog")) -> RunNotes:
    return RunNotes(path, run, {"seed": 1}, data, classes)


def test_labels_by_number_and_skipped_files_are_said(tmp_path: Path) -> None:
    said = notes(tmp_path / "t.tsv", replace(NUMBERED, skipped={"no image: .txt": 2, "in no class's folder": 1}))
    assert said.as_facts() == {"labels": "by number", "skipped": {"no image: .txt": 2, "in no class's folder": 1}}
    assert said.lines() == [
        "labels are numbers: taken as the positions of the bundle's classes",
        "skipped: 1 (in no class's folder), 2 (no image: .txt)",
    ]
    for quiet in (
        notes(tmp_path / "t.tsv", classes=("1", "0")),
        notes(tmp_path / "t.tsv", replace(NUMBERED, named=True)),
    ):
        assert quiet.lines() == [] and quiet.as_facts() == {}


def test_images_that_cannot_be_used_are_kept_for_the_run_that_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "t.tsv"
    out.write_text("")
    notes(out).add(5, "5.png: cannot be read")
    assert load_facts(facts_path(out)) == {
        "run": "r", "seed": 1, "labels": "by number", "invalid": {"5": "5.png: cannot be read"},
    }  # fmt: skip
    again = notes(out)
    assert again.invalid == {5: "5.png: cannot be read"} and "1 image could not be used" in again.lines()[-1]
    assert notes(out, run="another").invalid == {}
    out.unlink()
    assert notes(out).invalid == {}


def test_what_is_no_image_s_number_is_not_kept(tmp_path: Path) -> None:
    out = tmp_path / "t.tsv"
    out.write_text("")
    save_facts({"run": "r", "invalid": {"x": "a", "-1": "b", 5000 * "9": "c", "²": "d", "6": "e"}}, facts_path(out))
    assert notes(out).invalid == {6: "e"}
