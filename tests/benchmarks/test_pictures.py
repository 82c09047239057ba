"""Cards of bundles of small pictures name the command that made their figures, with its numbers."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("accelerate", reason="the command trains too (pip install 'certify[train]')")

from benchmarks.pictures import command
from certify.models.bundle import BUNDLES, load_manifest


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
