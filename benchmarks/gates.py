"""How many images a gate takes, simulated: the table of docs/gate.md. No network, no machine's speed.

python -m benchmarks.gates [--gates 200] [--images 1000]
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import table
from certify.service.core import Gate, GateVerdict, Requirement

__all__ = ("main",)

# (share that the service certifies, T)
PAIRS = ((0.95, 0.90), (0.90, 0.85), (0.75, 0.65), (0.70, 0.65), (0.60, 0.65), (0.50, 0.65))
CONFIDENCE, ALPHA = 0.95, 0.001


def gate(certified: NDArray[np.bool_], at_least: float) -> tuple[GateVerdict, int]:
    """The verdict, and images until it."""
    whole = Requirement(group=None, at_least=at_least, images=len(certified), weight=1.0)
    machine = Gate([whole], alpha=ALPHA, confidence=CONFIDENCE)
    for each in certified.tolist():
        machine.observe(0, each)
        if machine.verdict is not GateVerdict.UNDECIDED:
            break
    return machine.verdict, machine.standings()[0].images


def row(share: float, at_least: float, gates: int, images: int) -> list[str]:
    random = np.random.default_rng([round(share * 100), round(at_least * 100)])
    ends = [gate(random.random(images) < share, at_least) for _ in range(gates)]
    middle, most = np.quantile([taken for _, taken in ends], [0.5, 0.9], method="higher").tolist()
    verdicts = Counter(str(verdict) for verdict, _ in ends)
    said = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    return [f"{share:.2f}", f"{at_least:.2f}", f"{middle:,}, {most:,}", said]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gates", type=int, default=200)
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    head = ["the service certifies", "against T", "images, median and nine in ten", f"of {options.gates} gates"]
    print(table(head, [row(share, at_least, options.gates, options.images) for share, at_least in PAIRS]))


if __name__ == "__main__":
    main()
