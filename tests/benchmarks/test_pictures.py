"""Cards of bundles of small pictures name the command that made their figures, with its numbers."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="the command trains too (pip install 'certify[train]')")

from benchmarks import pictures
from benchmarks.pictures import command
from certify.models.bundle import BUNDLES, load_manifest
from certify.models.train.config import FileConfig
from certify.models.train.runs import find_run


def test_the_command_has_the_numbers_that_were_asked_for_and_no_other() -> None:
    asked = {"judge_images": 60, "finest_images": 0, "tune_images": None, "samples": 1024, "tune_samples": 640}
    assert command("fashion", asked) == (
        "python -m benchmarks.pictures fashion --data DIR --judge-images 60 --samples 1024 --tune-samples 640"
    )


@pytest.mark.parametrize("name", ["cifar10", "fashion"])
def test_a_shipped_card_names_what_measures_as_much_as_was_measured(name: str) -> None:
    text = (BUNDLES / name / "README.md").read_text()
    (written,) = re.findall(rf"\*\*Measured by\*\* `(python -m benchmarks.pictures {name} --data DIR.*)`", text)
    options = {option.replace("-", "_"): int(value) for option, value in re.findall(r"--([a-z-]+) (\d+)", written)}
    assert command(name, {"finest_images": 0, **options}) == written
    figures = load_manifest(BUNDLES / name).figures
    assert (options["judge_images"], options["samples"]) == (figures["images"], figures["samples"])
    chose, samples = re.findall(r"chosen on (\d+) training images held aside, N = (\d+)", text)[0]
    assert (options["tune_images"], options["tune_samples"]) == (int(chose), int(samples))
    most = max(row["images"] for row in figures["rows"].values())
    assert options.get("finest_images", options["judge_images"]) == most


def test_a_run_that_names_a_fine_tuning_ends_with_what_that_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, asked = find_run("cifar10"), []
    assert isinstance(config, FileConfig)

    def train_run(run: str, *, work: Path, bundle: str | None = None, **_: object) -> None:
        asked.append((run, bundle))
        (work / "bundle").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(pictures, "train_run", train_run)
    first = pictures.made(config, tmp_path, tmp_path / "work", threads=1)
    assert first == tmp_path / "work" / "cifar10_brier_anti" and (first / "bundle").is_dir()
    assert asked == [("cifar10", None), ("cifar10_brier_anti", str(tmp_path / "work" / "bundle"))]
    assert pictures.made(config, tmp_path, tmp_path / "work", threads=1) == first and len(asked) == 3  # not again
    alone = dataclasses.replace(config, finetune=None)
    assert pictures.made(alone, tmp_path, tmp_path / "work", threads=1) == tmp_path / "work"
