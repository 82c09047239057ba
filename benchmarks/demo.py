"""`make demo`: start the service, certify ten held-out digits over HTTP, show what came back, stop the service.

The images are PNG files drawn from scikit-learn's digits; none of them was seen in training or in choosing thresholds.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import httpx

from benchmarks.served import service, write_digits

SAMPLES = 2_000  # a fifth of the default: a laptop answers in about a second, with radii a little smaller


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, service() as served:
        print(f"serving on {served.url}\n")
        print(f"{'true':>4}  {'label':>5}  {'sigma':>5}  {'radius':>8}  {'samples':>7}  {'seconds':>7}")
        answer: dict[str, Any] = {}
        for label, path in write_digits(Path(folder)):
            reply = httpx.post(
                f"{served.url}/certify", files={"image": path.read_bytes()}, data={"samples": SAMPLES}, timeout=60
            )
            reply.raise_for_status()
            answer = reply.json()
            print(row(label, answer), flush=True)
        print(f"\nthe last answer, whole:\n{json.dumps(answer, indent=2)}")


def row(true_label: int, answer: dict[str, Any]) -> str:
    """One line of the table; an abstention has a dash for its label and its reason for a sigma."""
    label = answer["label"]["name"] if answer["label"] else "-"
    sigma = answer["sigma"] or answer["abstain_reason"]
    cells = f"{true_label:>4}  {label:>5}  {sigma:>5}  {answer['radius']:>8.6f}  {answer['samples_used']:>7}"
    return f"{cells}  {answer['timing']['total_seconds']:>7.2f}"


if __name__ == "__main__":
    main()
