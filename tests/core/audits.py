"""Audits and gates whose truth is known; shared by their tests and by the planted faults."""

from __future__ import annotations

import copy
from collections import defaultdict
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

ALPHA = 0.1  # of a certificate: large, so that forgetting it shows


def certified_images(random: np.random.Generator, theta: float, n: int) -> NDArray[np.bool_]:
    """Random inputs, a share `theta` truly so; noise at its worst: each of the others is certified with ALPHA."""
    truth = random.random(n) < theta
    return truth | (random.random(n) < ALPHA)


def failures_of_audits(population: ModuleType, *, audits: int, error: float) -> float:
    """Share of audits whose lower bound is above the truth."""
    random = np.random.default_rng(14)
    wrong = 0
    for _ in range(audits):
        theta, n = random.uniform(0.05, 0.95), int(random.integers(20, 400))
        certified = int(certified_images(random, theta, n).sum())
        said = population.Population(images=n, certified=certified, alpha=ALPHA, confidence=1 - error)
        wrong += said.at_least > theta
    return wrong / audits


def coverage_of_interval(population: ModuleType, n: int = 200, error: float = 0.05) -> float:
    """The least over a grid of shares, exact."""
    ends = np.array([population.interval(k, n, error) for k in range(n + 1)])
    grid = np.linspace(0.01, 0.99, 197)
    inside = (ends[:, :1] <= grid) & (grid <= ends[:, 1:])
    return float((binom.pmf(np.arange(n + 1)[:, None], n, grid) * inside).sum(axis=0).min())


def one_gate(core: ModuleType, *, at_least: float, images: int, confidence: float, alpha: float = ALPHA):
    requirement = core.Requirement(group=None, at_least=at_least, images=images, weight=1.0)
    return core.Gate([requirement], alpha=alpha, confidence=confidence)


def exact_verdicts(core: ModuleType, q: float, **facts: float) -> dict[str, float]:
    """verdict -> its probability where a share q is certified: every sequence of images, joined where counts meet."""
    gates = {0: (1.0, one_gate(core, **facts))}
    found: dict[str, float] = defaultdict(float)
    for _ in range(int(facts["images"])):
        after: dict[int, tuple[float, object]] = {}
        for count, (probability, gate) in gates.items():
            for more in (0, 1):
                new, share = copy.deepcopy(gate), probability * (q if more else 1 - q)
                new.observe(0, bool(more))
                if new.verdict != "undecided":
                    found[str(new.verdict)] += share
                else:  # bounds of earlier looks decided nothing: which of them a gate has no longer matters
                    after[count + more] = (share + after.get(count + more, (0.0,))[0], new)
        gates = after
    found["undecided"] = sum(probability for probability, _ in gates.values())
    return found


def exact_of_two_classes(
    core: ModuleType, q: float, *, at_least: float, each: int, confidence: float
) -> dict[str, float]:
    """The same of a gate on two classes alone, both certified in a share q, whose images come in turn."""
    required = [core.Requirement(group=group, at_least=at_least, images=each, weight=0.5) for group in (0, 1)]
    found: dict[str, float] = defaultdict(float)
    gates = [(1.0, core.Gate(required, alpha=ALPHA, confidence=confidence))]
    for turn in range(2 * each):
        after = []
        for probability, gate in gates:
            for more in (0, 1):
                new, share = copy.deepcopy(gate), probability * (q if more else 1 - q)
                new.observe(turn % 2, bool(more))
                if new.verdict == "undecided":
                    after.append((share, new))
                else:
                    found[str(new.verdict)] += share
        gates = after
    found["undecided"] = sum(probability for probability, _ in gates)
    return found
