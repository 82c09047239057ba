"""Faults planted in copies of the core: the tests must see each of them.

A test that cannot fail proves nothing. Each check here passes on the real core and fails on one faulty copy.
"""

import importlib
import shutil
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from certify.service import core
from tests.core import test_noises as noises
from tests.core.oracle import population_radius, run
from tests.core.test_certifier import exact_failure

CORE = Path(core.__file__).parent
ALPHA = 0.1


def planted(tmp_path: Path, name: str, file: str, old: str, new: str):
    """Import a copy of core with one passage changed."""
    package = tmp_path / name
    shutil.copytree(CORE, package, ignore=shutil.ignore_patterns("__pycache__"))
    text = (package / file).read_text()
    assert text.count(old) == 1, f"the passage to change is no longer in {file}"
    (package / file).write_text(text.replace(old, new))
    sys.path.insert(0, str(tmp_path))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(tmp_path))


def failure_rate(machinery, p: np.ndarray, runs: int = 2_000, **parameters) -> float:
    """Share of runs whose certificate claims more than its label's population radius."""
    sigmas = np.array([0.25, 0.5, 1.0])[: len(p)]
    truth = [max(0.0, population_radius(p, label, sigmas)) for label in range(p.shape[1])]
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(runs):
        cascade = machinery.Cascade.of(sigmas.tolist(), final="threshold")
        machine = machinery.Certifier(cascade, p.shape[1], alpha=ALPHA, **parameters)
        result = run(machine, p, rng)
        wrong += result.label is not None and result.radius > truth[result.label]
    return wrong / runs


def pilot_reuse(core) -> bool:
    """Exact, by enumeration: .0967 with fresh draws, .1709 when the pilot's draws join the bound."""
    return exact_failure(core) <= ALPHA


def unpaid_looks(core) -> bool:
    return failure_rate(core, np.array([[0.5, 0.5]]), samples=3_000) <= ALPHA


def ignored_weights(core) -> bool:
    # y is at 1/2 on every level, so each level's lower bound can fail on its own; rivals are harmless.
    return failure_rate(core, np.array([[0.5, 0.25, 0.25]] * 3), samples=3_000, single_look=True) <= ALPHA


def rechosen_label(core) -> bool:
    return exact_failure(core) <= ALPHA


def exact_radii(core) -> bool:
    """None above its 50-digit value."""
    return all(
        Decimal(noises.certified(case, core).radius) <= Decimal(case["expected"]["radius"])
        for case in noises.GOLD["cascade"]
    )


def exact_psi(core) -> bool:
    """None above its 50-digit value by more than rounding in float64."""
    finite = [case for case in noises.GOLD["psi"] if not case["psi"].endswith("inf")]
    return all(
        noises.psi(case, core) <= float(case["psi"]) + 1e-12 * max(1.0, abs(float(case["psi"]))) for case in finite
    )


def own_norm(core) -> bool:
    return all(noises.made(case, core).norm == "l1" for case in noises.GOLD["cascade"])


CHECKS: dict[str, tuple[Callable[..., bool], str, str, str]] = {
    "pilot draws reused in the bound": (
        pilot_reuse,
        "certifier.py",
        """        label_count, rival_count = level.split(label)
        lower, upper = level_bounds(label_count, rival_count, level.samples, level.errors[level.taken - 1])
""",
        """        pairs = zip(level.split(label), level.split(label, pilot=True))
        label_count, rival_count = (a + b for a, b in pairs)
        n = level.samples + level.pilot_samples
        lower, upper = level_bounds(label_count, rival_count, n, level.errors[level.taken - 1])
""",
    ),
    "looks not paid for": (
        unpaid_looks,
        "state.py",
        "(alpha * split[0] * look.share, alpha * split[1] * look.share)",
        "(alpha * split[0], alpha * split[1])",
    ),
    "weights ignored": (
        ignored_weights,
        "certificate.py",
        "shares = [(w, math.fsum(weights[:k])) for k, w in enumerate(weights)]",
        "shares = [(1.0, 1.0) for _ in weights]",
    ),
    "label re-chosen after estimation": (
        rechosen_label,
        "certifier.py",
        "        label_count, rival_count = level.split(label)\n        lower, upper",
        "        label = self._state.label = level.leader()\n"
        "        label_count, rival_count = level.split(label)\n        lower, upper",
    ),
}


QUICK: dict[str, tuple[Callable[..., bool], str, str, str]] = {
    "psi of the wrong noise": (
        exact_radii,
        "laws.py",
        '"laplace": Law(_laplace_quantile,',
        '"laplace": Law(normal_quantile,',
    ),
    "another noise at its standard deviation": (
        exact_radii,
        "certificate.py",
        "return tuple(scale for _, scale in self.noises)",
        "return self.sigmas",
    ),
    "constants in float32": (
        exact_psi,
        "certificate.py",
        "return tuple(scale for _, scale in self.noises)",
        "return tuple(float(__import__('numpy').float32(scale)) for _, scale in self.noises)",
    ),
    "a radius in L1 given for one in L2": (
        own_norm,
        "certificate.py",
        'return "l1" if self.noise else "l2"',
        'return "l2"',
    ),
    "plurality without its half": (
        exact_radii,
        "certificate.py",
        "return self.scales[0] / 2 *",
        "return self.scales[0] *",
    ),
}


@pytest.mark.parametrize("fault", QUICK)
def test_a_fault_in_another_noises_radius_is_caught(tmp_path, fault):
    check, *change = QUICK[fault]
    assert check(core)
    assert not check(planted(tmp_path, "faulty_" + fault.replace(" ", "_"), *change))


@pytest.mark.slow
@pytest.mark.parametrize("fault", CHECKS)
def test_the_real_core_passes_and_the_faulty_copy_is_caught(tmp_path, fault):
    check, *change = CHECKS[fault]
    assert check(core)
    assert not check(planted(tmp_path, "faulty_" + fault.split()[0], *change))


def test_reusing_the_pilot_fails_at_the_rate_computed_by_hand(tmp_path):
    check, *change = CHECKS["pilot draws reused in the bound"]
    core = planted(tmp_path, "faulty_by_hand", *change)
    assert exact_failure(core) == pytest.approx(0.1709, abs=5e-5)
