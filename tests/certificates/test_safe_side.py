"""The verifier's floating point errs on the safe side: it proves no more than the counts do."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from certify import verify
from certify.envelope import opened
from tests.certificates.vectors import FOLDER

CASES = json.loads((Path(__file__).parents[1] / "golden/statistics.json").read_text())
LITTLE = Decimal("1e-11")


@pytest.mark.parametrize("case", CASES["clopper_pearson_lower"], ids=lambda c: f"{c['k']}of{c['n']}@{c['alpha']}")
def test_its_lower_bound_is_never_above_the_exact_one(case: dict[str, str | int]) -> None:
    lower, _ = verify._look(case["k"], 0, case["n"], float(case["alpha"]), 0.0)
    assert Decimal(case["value"]) - LITTLE <= Decimal(lower) <= Decimal(case["value"])


@pytest.mark.parametrize("case", CASES["clopper_pearson_upper"], ids=lambda c: f"{c['k']}of{c['n']}@{c['alpha']}")
def test_its_upper_bound_is_never_below_the_exact_one(case: dict[str, str | int]) -> None:
    _, upper = verify._look(0, case["k"], case["n"], 0.0, float(case["alpha"]))
    assert Decimal(case["value"]) <= Decimal(upper) <= Decimal(case["value"]) + LITTLE


@pytest.mark.parametrize(("radius", "holds"), [("0.099999", True), ("0.1", False), ("0.100001", False)])
def test_a_radius_at_the_very_edge_is_not_taken(radius: str, holds: bool) -> None:
    """51 of a cell's votes between the first and the second class are 51 / 510 in L1: the edge is not inside."""
    payload, _, _ = opened((FOLDER / "valid_counted.json").read_bytes())
    described, level = payload["function"]["levels"][0], payload["counts"]["levels"][0]
    rival = (described["grey_steps"] - 51) // 2
    votes = f"0:{rival + 51} 1:{rival}"
    if 2 * rival + 51 < described["grey_steps"]:
        votes += f" 2:{described['grey_steps'] - 2 * rival - 51}"
    level.update(chunks=[votes])
    level["looks"][0]["votes"] = votes
    payload["function"]["levels"], payload["counts"]["levels"] = [described], [level]
    payload["counts"]["label"] = 0
    payload["statement"].update(radius=radius, label={"index": 0, "name": "0"}, outcome="certified")
    payload["statement"]["speaks_of"] = f"8-bit image x' with |x' - x|_1 < {radius}, pixels in [0, 1]"
    found = list(verify.checks(payload, verify.canonical(payload)))
    assert found[-1].holds == holds and (holds or found[-1].name == "radius"), found[-1]
