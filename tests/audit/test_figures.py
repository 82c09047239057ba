"""An audit's figures: hand-worked, and held against SciPy's."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scipy.stats import binomtest

from certify.service.errors import DataError
from tests import pictures
from tests.audit.folders import TEN, Made, about, dataset, figures, table


def test_ten_images_by_hand(tmp_path: Path) -> None:
    """At .25: .3, .5, .7 of class 0 and .25 of class 1 are right, .4 as another label is wrong."""
    table(tmp_path, TEN)
    found = figures(tmp_path)
    counts = [(at["radius"], at["certified"]["count"], at["certified"]["of"], at["wrong"]) for at in found["radii"]]
    assert counts == [(0.0, 6, 10, 2), (0.25, 4, 10, 1), (0.5, 2, 10, 0)]
    assert [(each["outcome"], each["reason"], each["images"]["count"]) for each in found["outcomes"]] == [
        ("right", None, 6), ("wrong", None, 2), ("abstained", "undecided", 1), ("invalid", "image_undecodable", 1),
    ]  # fmt: skip
    assert found["acr"]["value"] == pytest.approx((0.1 + 0.3 + 0.5 + 0.7 + 0.25 + 0.2) / 10)
    assert found["cost"] == {"samples": 10_000, "samples_an_image": 1000.0, "seconds": 2.5}
    worst = [(each["name"], each["right"], each["wrong"], each["abstained"]) for each in found["classes"]]
    assert found["class_radius"] == 0.25
    assert worst == [("two", 0, 0, 2), ("one", 2, 2, 0), ("zero", 4, 0, 0)]  # at .25: 0, 1/4, 3/4
    assert found["curve"]["band"] == pytest.approx(math.sqrt(math.log(40) / 20), abs=1e-4)
    assert found["curve"]["radius"][-1] == 0.7 and found["curve"]["share"][0] == 0.6


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_bounds_are_scipys_rounded_outward(confidence: float, tmp_path: Path) -> None:
    table(tmp_path, TEN)
    for at in figures(tmp_path, confidence=confidence)["radii"]:
        share = at["certified"]
        test = binomtest(share["count"], share["of"])
        exact = test.proportion_ci(confidence, method="exact")
        assert exact.low - 1e-4 <= share["lower"] <= exact.low
        assert exact.high <= share["upper"] <= exact.high + 1e-4
        one_sided = binomtest(share["count"], share["of"], alternative="greater").proportion_ci(confidence, "exact").low
        truly = max(0.0, (one_sided - 0.001) / 0.999)
        assert truly - 1e-4 <= at["robust"] <= truly


def test_lower_bounds_of_classes_hold_at_once(tmp_path: Path) -> None:
    table(tmp_path, TEN)
    zero = next(each for each in figures(tmp_path)["classes"] if each["name"] == "zero")
    alone = binomtest(4, 4, alternative="greater").proportion_ci(1 - 0.05 / 3, "exact").low  # three classes
    truly = (alone - 0.001) / 0.999
    assert truly - 1e-4 <= zero["at"][0]["robust"] <= truly


def test_where_every_sample_is_counted_alpha_costs_nothing(tmp_path: Path) -> None:
    splitting = about(method="deterministic", alpha=0.0, noise=["splitting"] * 2, norm="l1")
    table(tmp_path, TEN, about=splitting.model_dump(mode="json"))
    found = figures(tmp_path)
    low = binomtest(6, 10, alternative="greater").proportion_ci(0.95, "exact").low
    assert low - 1e-4 <= found["radii"][0]["robust"] <= low
    assert "nothing of this is left to chance" in found["says"][0] and "no certificate is false" in found["says"][2]
    assert "L1" in found["says"][1] and "L2" not in " ".join(found["says"])


def test_a_file_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    rows = (*TEN, *TEN)
    table(tmp_path, rows)
    data = dataset(rows, read=lambda position: pictures.png(position % 10))
    found = figures(tmp_path, rows, data)
    assert (found["data"]["asked"], found["data"]["rows"], found["data"]["images"]) == (20, 20, 10)
    assert found["radii"][1]["certified"]["count"] == 4 and found["cost"]["samples"] == 20_000
    assert "each file counted once" in found["says"][1] and "not its share of the use" in found["says"][1]


@pytest.mark.parametrize(
    ("norm", "radius", "every", "one"), [("l2", 0.5, "15.9", "by less than 127.5"), ("l1", 2.0, "7.9", "in any way")]
)
def test_a_radius_is_said_in_grey_steps_that_stay_below_it(
    norm: str, radius: float, every: str, one: str, tmp_path: Path
) -> None:
    """8 x 8 values: .5 * 255 / 8 = 15.94 in L2, 2 * 255 / 64 = 7.97 in L1. Radii at which nothing is shown are none."""
    noise = {"l2": "gaussian", "l1": "laplace"}[norm]
    table(tmp_path, [Made(0, 0, radius)] * 20, about=about(norm=norm, noise=[noise] * 2).model_dump(mode="json"))
    said = figures(tmp_path, [Made(0, 0, radius)] * 20, radii=(0.0, radius, 9.0))["says"][0]
    assert (
        f"Below {radius:g} is, for example, each of the picture's 64 values changed by less than {every} of 255" in said
    )
    assert f"or one of them changed {one}." in said


def test_shards_that_are_missing_or_unfinished_are_said(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    table(whole, TEN)
    table(parts, TEN, shard=(1, 3))
    table(parts, TEN[:4], shard=(2, 3))  # one of three rows
    found = figures(parts, shards=3)
    assert found["shards"] == {"number": 3, "missing": ["3/3"], "unfinished": ["2/3"]}
    assert (found["data"]["asked"], found["data"]["rows"]) == (10, 5)
    table(parts, TEN, shard=(3, 3))
    (parts / "rows-2-of-3.tsv").unlink()
    table(parts, TEN, shard=(2, 3))
    alone, joined = figures(whole), figures(parts, shards=3)
    assert joined["shards"] == {"number": 3, "missing": [], "unfinished": []}
    for name in ("radii", "classes", "outcomes", "curve", "acr", "cost", "examples", "says"):
        assert joined[name] == alone[name]


def test_rows_of_two_runs_or_of_nobody_are_refused(tmp_path: Path) -> None:
    table(tmp_path, TEN, shard=(1, 2))
    table(tmp_path, TEN, shard=(2, 2), run="ba9876543210")
    with pytest.raises(DataError, match="expected rows of run 0123456789ab, got rows of run ba9876543210"):
        figures(tmp_path, shards=2)
    with pytest.raises(DataError, match="expected at least one row"):
        figures(tmp_path / "empty", shards=2)
    table(tmp_path / "old", TEN, about=None)
    with pytest.raises(DataError, match=r"rows.tsv.json: about: expected what certified the rows"):
        figures(tmp_path / "old")
    table(tmp_path / "other", (*TEN, Made(7, 7, 0.1)))
    with pytest.raises(DataError, match="expected labels of the 4 classes"):
        figures(tmp_path / "other")


def test_an_image_in_two_tables_is_refused(tmp_path: Path) -> None:
    table(tmp_path, TEN, shard=(1, 2))
    text = (tmp_path / "rows-1-of-2.tsv").read_text()
    table(tmp_path, TEN, shard=(2, 2))
    (tmp_path / "rows-2-of-2.tsv").write_text(text)
    with pytest.raises(DataError, match="expected shards, and an image is in two"):
        figures(tmp_path, shards=2)


def test_radii_that_nobody_named_cover_the_rows(tmp_path: Path) -> None:
    table(tmp_path, TEN)
    radii = [at["radius"] for at in figures(tmp_path, radii=())["radii"]]
    assert radii[0] == 0 and radii == sorted(radii) and 0.5 <= radii[-1] <= 1.0


def test_examples_are_of_every_kind(tmp_path: Path) -> None:
    table(tmp_path, TEN)
    chosen = [(each["kind"], each["idx"], each["label"], each["certified"]) for each in figures(tmp_path)["examples"]]
    assert chosen == [
        ("certified", 3, "zero", "zero"), ("certified", 2, "zero", "zero"), ("certified", 1, "zero", "zero"),
        ("certified", 4, "one", "one"), ("certified", 5, "one", "one"), ("certified", 0, "zero", "zero"),
        ("wrong", 6, "one", "zero"), ("wrong", 7, "one", "two"), ("abstained", 8, "two", None),
    ]  # fmt: skip
    many = [Made(0, 0, 0.01 * at) for at in range(100)]
    table(tmp_path / "many", many)
    radii = [each["radius"] for each in figures(tmp_path / "many", many)["examples"]]
    assert len(radii) == 8 and radii == sorted(radii, reverse=True) and (radii[0], radii[-1]) == (0.99, 0.0)
