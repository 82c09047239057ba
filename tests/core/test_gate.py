"""The sequential gate: its verdicts, its errors (exact and simulated), and what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from certify.service import core
from certify.service.core import Gate, GateVerdict, Requirement
from certify.service.core.results import ProtocolError
from tests.core.audits import ALPHA, certified_images, exact_of_two_classes, exact_verdicts, one_gate

FACTS = {"at_least": 0.6, "images": 60, "confidence": 0.8}
# One look, at five images: at these thresholds five certified pass, and none certified fail, with all of the error, .1.
TO_PASS, TO_FAIL = (0.1**0.2 - ALPHA) / (1 - ALPHA) - 1e-6, 1 - 0.1**0.2 + 1e-6
FIVE = {"images": 5, "confidence": 0.8}


def watched(gate: Gate, certified: itertools.chain[bool] | list[bool]) -> int:
    """Images that it needed."""
    for n, each in enumerate(certified, start=1):
        gate.observe(0, bool(each))
        if gate.verdict is not GateVerdict.UNDECIDED:
            return n
    return len(list(certified))


def test_all_certified_passes_at_the_first_look_that_it_can():
    """t = .65, alpha = .001: q = .65035; half of .05, of which each of 7 early looks has a fourteenth: 16 images."""
    gate = one_gate(core, at_least=0.65, images=400, confidence=0.95, alpha=0.001)
    n = watched(gate, [True] * 400)
    assert gate.verdict is GateVerdict.PASS and 14 <= n <= 18
    (standing,) = gate.standings()
    assert (standing.images, standing.certified, standing.verdict) == (n, n, "pass")
    assert standing.at_least >= 0.65 and standing.at_most == 1.0


def test_none_certified_fails_as_soon():
    gate = one_gate(core, at_least=0.65, images=400, confidence=0.95)
    assert watched(gate, [False] * 400) <= 8
    assert gate.verdict is GateVerdict.FAIL and gate.standings()[0].at_most < 0.65


def test_what_lies_at_the_threshold_stays_undecided_to_the_last_image():
    gate = one_gate(core, at_least=0.65, images=200, confidence=0.95, alpha=0.001)
    watched(gate, [i % 20 < 13 for i in range(200)])
    assert gate.verdict is GateVerdict.UNDECIDED and gate.standings()[0].images == 200


def test_a_wrong_pass_has_at_most_half_of_the_error_whatever_the_truth():
    """theta just under t, every false certificate issued that alpha allows; exact, over all sequences of images."""
    at_threshold = exact_verdicts(core, ALPHA + (1 - ALPHA) * (0.6 - 1e-9), alpha=ALPHA, **FACTS)
    assert 0.05 < at_threshold["pass"] <= 0.1
    assert sum(at_threshold.values()) == pytest.approx(1.0)
    assert exact_verdicts(core, ALPHA + (1 - ALPHA) * 0.5, alpha=ALPHA, **FACTS)["pass"] < at_threshold["pass"]


def test_a_wrong_fail_has_the_other_half():
    assert 0.05 < exact_verdicts(core, 0.6, alpha=ALPHA, **FACTS)["fail"] <= 0.1


def test_one_look_may_spend_all_of_the_error_and_no_more():
    """FACTS' looks overlap, and leave half of it: what is here is all that there is. A threshold further is too far."""
    q = ALPHA + (1 - ALPHA) * TO_PASS
    assert 0.0999 < exact_verdicts(core, q - 1e-9, alpha=ALPHA, at_least=TO_PASS, **FIVE)["pass"] <= 0.1
    assert 0.0999 < exact_verdicts(core, TO_FAIL, alpha=ALPHA, at_least=TO_FAIL, **FIVE)["fail"] <= 0.1
    assert "pass" not in exact_verdicts(core, q, alpha=ALPHA, at_least=TO_PASS + 2e-6, **FIVE)
    assert "fail" not in exact_verdicts(core, TO_FAIL, alpha=ALPHA, at_least=TO_FAIL - 2e-6, **FIVE)


def test_two_classes_have_half_of_it_each():
    """Four images of each, none certified: a chance of .09 is more than a class's half of .1, of .05 it is not."""
    over, under = (exact_of_two_classes(core, t, at_least=t, each=4, confidence=0.8) for t in (1 - 0.09**0.25, 0.53))
    assert "fail" not in over and 0.09 < under["fail"] <= 0.1


@pytest.mark.parametrize("theta", [0.3, 0.6, 0.9])
def test_two_thousand_runs_stopped_by_an_adversary_claim_too_much_in_a_tenth_at_most(theta):
    """He reads both bounds after each image and stops where one of them is wrong. Confidence .8: .1 a side."""
    random, above, below = np.random.default_rng(23), 0, 0
    q = theta + ALPHA * (1 - theta)
    for _ in range(2_000 // 3 + 1):
        gate = one_gate(core, at_least=0.6, images=150, confidence=0.8)
        highest, lowest = 0.0, 1.0
        for certified in certified_images(random, theta, 150):
            gate.observe(0, bool(certified))
            if gate.verdict is not GateVerdict.UNDECIDED:
                break
        (standing,) = gate.standings()  # bounds only grow tighter: the last has what he could stop at
        highest, lowest = max(highest, standing.at_least), min(lowest, standing.at_most)
        above += highest > theta
        below += lowest < q
    assert above <= 0.1 * 667 and below <= 0.1 * 667


def three_classes(machinery, thetas, *, seed: int, runs: int) -> dict[str, float]:
    """Verdicts of a gate on all inputs and on three classes, at .6 each; 40 images of each class in random order."""
    random = np.random.default_rng(seed)
    counts = {"pass": 0, "fail": 0, "undecided": 0}
    for _ in range(runs):
        overall = machinery.Requirement(group=None, at_least=0.3, images=120, weight=0.5)
        classes = [machinery.Requirement(group=c, at_least=0.6, images=40, weight=1 / 6) for c in range(3)]
        gate = machinery.Gate([overall, *classes], alpha=1e-9, confidence=0.8)
        for group in random.permutation(np.repeat(range(3), 40)):
            if gate.verdict != "undecided":
                break
            gate.observe(int(group), bool(random.random() < thetas[group]))
        counts[str(gate.verdict)] += 1
    return {verdict: count / runs for verdict, count in counts.items()}


def test_a_gate_on_classes_fails_good_ones_in_a_tenth_at_most():
    assert three_classes(core, [0.6, 0.6, 0.6], seed=1, runs=500)["fail"] <= 0.1


def test_one_bad_class_passes_in_a_tenth_at_most_and_good_ones_mostly_pass():
    assert three_classes(core, [0.599, 1.0, 1.0], seed=2, runs=500)["pass"] <= 0.1
    assert three_classes(core, [0.95, 0.95, 0.95], seed=3, runs=100)["pass"] > 0.9


def test_a_bad_class_fails_a_gate_that_all_inputs_together_pass():
    assert three_classes(core, [0.1, 1.0, 1.0], seed=4, runs=100)["fail"] > 0.9


def test_what_is_shown_leaves_its_part_of_the_error_to_the_rest():
    """40 of 40 of one class and 31 of 40 of the other: the second passes at the whole error, not at its half."""
    requirements = [Requirement(group=c, at_least=0.6, images=40, weight=0.5) for c in (0, 1)]
    gate = Gate(requirements, alpha=0.001, confidence=0.9)
    seconds = [i % 40 not in range(0, 36, 4) for i in range(40)]
    for certified in seconds:
        gate.observe(1, certified)
    assert gate.verdict is GateVerdict.UNDECIDED and gate.standings()[1].at_least < 0.6
    for _ in range(40):
        if gate.verdict is GateVerdict.UNDECIDED:
            gate.observe(0, True)
    assert gate.verdict is GateVerdict.PASS
    assert [each.verdict for each in gate.standings()] == ["pass", "pass"]
    assert gate.standings()[1].at_least < 0.6  # at its own part it is not shown; by Holm it is


def test_a_class_without_images_stays_undecided():
    requirements = [
        Requirement(group=None, at_least=0.5, images=50, weight=0.5),
        Requirement(group=3, at_least=0.5, images=0, weight=0.5),
    ]
    gate = Gate(requirements, alpha=0.001, confidence=0.9)
    for _ in range(50):
        gate.observe(0, True)
    assert gate.verdict is GateVerdict.UNDECIDED
    assert [each.verdict for each in gate.standings()] == ["pass", "undecided"]
    with pytest.raises(ProtocolError, match="50 images of group None"):
        gate.observe(0, True)


def test_no_image_is_taken_after_a_verdict():
    gate = one_gate(core, at_least=0.5, images=50, confidence=0.9)
    watched(gate, [False] * 50)
    with pytest.raises(ProtocolError, match="after the verdict fail"):
        gate.observe(0, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"at_least": 0.0}, "at_least"), ({"at_least": 1.0}, "at_least"), ({"images": -1}, "images")],
)
def test_a_requirement_that_cannot_be_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Requirement(**{"group": None, "at_least": 0.5, "images": 5, "weight": 1.0, **change})


@pytest.mark.parametrize(
    ("groups", "weights", "confidence", "said"),
    [
        ((None,), (1.0,), 1.0, "confidence"),
        ((None,), (0.9,), 0.9, "weight"),
        ((None,), (float("nan"),), 0.9, "weight"),
        ((None, 1), (1.5, -0.5), 0.9, "weight"),
        ((1, 1), (0.5, 0.5), 0.9, "group"),
    ],
)
def test_requirements_that_do_not_fit_together_are_refused(groups, weights, confidence, said):
    required = [Requirement(group=g, at_least=0.5, images=5, weight=w) for g, w in zip(groups, weights, strict=True)]
    with pytest.raises(ValueError, match=said):
        Gate(required, alpha=0.001, confidence=confidence)


@pytest.mark.parametrize("alpha", [-0.1, 1.0, float("nan")])
def test_an_alpha_that_is_no_failure_probability_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        Gate([Requirement(group=None, at_least=0.5, images=5, weight=1.0)], alpha=alpha, confidence=0.9)
