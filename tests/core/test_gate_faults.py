"""Faults planted in copies of the population's bound and the gate: each must be caught by what the real ones pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from certify.service import core
from tests.core.audits import (
    ALPHA,
    coverage_of_interval,
    exact_of_two_classes,
    exact_verdicts,
    failures_of_audits,
)
from tests.core.test_faults import planted
from tests.core.test_gate import FACTS, FIVE, TO_FAIL, TO_PASS, three_classes

HALF = 0.1  # FACTS' confidence is .8


def honest_audits(machinery) -> bool:
    return failures_of_audits(machinery, audits=500, error=0.1) <= 0.1


def covering_interval(machinery) -> bool:
    return coverage_of_interval(machinery) >= 0.95


def honest_pass(machinery) -> bool:
    q = ALPHA + (1 - ALPHA) * (FACTS["at_least"] - 1e-9)
    return exact_verdicts(machinery, q, alpha=ALPHA, **FACTS)["pass"] <= HALF


def honest_fail(machinery) -> bool:
    return exact_verdicts(machinery, FACTS["at_least"], alpha=ALPHA, **FACTS)["fail"] <= HALF


def classes_at_once(machinery) -> bool:
    return three_classes(machinery, [0.6] * 3, seed=1, runs=300)["fail"] <= HALF


def no_early_pass(machinery) -> bool:
    at_least = TO_PASS + 0.01
    q = ALPHA + (1 - ALPHA) * (at_least - 1e-9)
    return exact_verdicts(machinery, q, alpha=ALPHA, at_least=at_least, **FIVE)["pass"] <= HALF


def no_early_fail(machinery) -> bool:
    at_least = TO_FAIL - 0.01
    return exact_verdicts(machinery, at_least, alpha=ALPHA, at_least=at_least, **FIVE)["fail"] <= HALF


def two_classes_at_once(machinery) -> bool:
    at_least = 1 - 0.09**0.25
    return exact_of_two_classes(machinery, at_least, at_least=at_least, each=4, confidence=0.8)["fail"] <= HALF


FAULTS: dict[str, tuple[Callable[..., bool], str, str, str]] = {
    "alpha forgotten": (
        honest_audits,
        "population.py",
        "(share - alpha) / (1.0 - alpha) - (_ROUNDING if alpha else 0.0)",
        "share",
    ),
    "alpha forgotten by the gate": (
        honest_pass,
        "gate.py",
        "return truly(max(bounds, default=0.0), alpha)",
        "return max(bounds, default=0.0)",
    ),
    "looks to pass not paid for": (
        honest_pass,
        "gate.py",
        "lower_bound(count, look.samples, error * look.share)",
        "lower_bound(count, look.samples, error)",
    ),
    "looks to fail not paid for": (
        honest_fail,
        "gate.py",
        "upper_bound(count, look.samples, error * look.share)",
        "upper_bound(count, look.samples, error)",
    ),
    "one-sided used twice in an interval": (
        covering_interval,
        "population.py",
        "return lower_bound(successes, n, alpha / 2), upper_bound(successes, n, alpha / 2)",
        "return lower_bound(successes, n, alpha), upper_bound(successes, n, alpha)",
    ),
    "one-sided used twice by the gate": (
        lambda machinery: honest_pass(machinery) and honest_fail(machinery),
        "gate.py",
        "self._error = (1.0 - confidence) / 2",
        "self._error = 1.0 - confidence",
    ),
    "each class with the whole error": (
        classes_at_once,
        "gate.py",
        "self._error * self._streams[i].requirement.weight / whole)}",
        "self._error)}",
    ),
    "a pass for a little less": (
        no_early_pass,
        "gate.py",
        "error) >= streams[i].requirement.at_least",
        "error) >= streams[i].requirement.at_least - 0.02",
    ),
    "a pass at twice its error": (
        no_early_pass,
        "gate.py",
        "lower(self.alpha, error) >=",
        "lower(self.alpha, 2 * error) >=",
    ),
    "a fail at twice its error": (no_early_fail, "gate.py", "upper(error) <", "upper(2 * error) <"),
    "what is left counted without the others": (
        two_classes_at_once,
        "gate.py",
        "requirement.weight for i in rest)",
        "requirement.weight for i in list(rest)[:1])",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_real_core_passes_and_the_faulty_copy_is_caught(tmp_path, fault):
    check, *change = FAULTS[fault]
    assert check(core)
    assert not check(planted(tmp_path, "faulty_" + "_".join(fault.replace("-", " ").split()), *change))
