"""What must hold of every answer, whatever was asked. Every HTTP test that gets an answer checks it here."""

from __future__ import annotations

import math
from typing import Any


def check(answer: dict[str, Any]) -> dict[str, Any]:
    """Assert the contract's rules on one answer of POST /certify and return it."""
    radius, stages = answer["radius"], answer["stages"]
    assert radius == math.floor(round(radius * 1e6)) / 1e6, "a radius has six decimals"
    dimension = math.prod(answer["input"]["shape"])
    in_l2 = set(answer["noise"]) == {"gaussian"}
    assert answer["radius_norm"] == ("l2" if in_l2 else "l1")
    assert answer["radius_l1"] == radius
    if in_l2:
        assert answer["radius_linf"] * math.sqrt(dimension) <= radius
    else:
        assert (answer["radius_linf"], answer["norm"]) == (None, "l1")
    assert len(answer["noise"]) == len(answer["threshold"])
    assert {stage["noise"] for stage in answer["stages"]} <= set(answer["noise"])
    assert (answer["method"] == "deterministic") == (answer["alpha"] == 0.0) == ("splitting" in answer["noise"])
    spent = sum(stage["samples"] + stage["pilot_samples"] for stage in stages)
    assert answer["samples_used"] == spent
    scales = [stage["sigma"] for stage in stages]
    assert scales == sorted(scales, reverse=True)
    for stage in stages:
        assert stage["count"] + stage["rival_count"] <= stage["samples"]
        assert 0.0 <= stage["p_lower"] <= 1.0
        assert 0.0 <= stage["p_rival_upper"] <= 1.0
    if answer["outcome"] == "abstained":
        assert answer["label"] is None
        assert answer["sigma"] is None
        assert (radius, answer["radius_linf"]) in ((0.0, 0.0), (0.0, None))
        assert answer["abstain_reason"] is not None
        assert "path" not in [stage["outcome"] for stage in stages]
        return answer
    assert answer["abstain_reason"] is None
    assert radius > 0.0
    (here,) = [stage for stage in stages if stage["outcome"] == "path"]
    assert here["sigma"] == answer["sigma"]
    path = [stage for stage in stages if stage["sigma"] >= answer["sigma"]]
    for stage in path:
        assert stage["outcome"] in ("path", "passed")
        assert radius <= stage["radius_bound"]
    assert radius == min(stage["radius_bound"] for stage in path)
    proved = answer["radius_linf"] if answer["norm"] == "linf" else radius
    requested = answer["requested_radius"]
    assert answer["outcome"] == ("certified" if requested is None or proved >= requested else "below_radius")
    return answer
