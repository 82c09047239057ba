"""What the output of every benchmark has in common: medians with their rounds, Markdown tables, progress, JSON."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ("progress", "save", "spread", "table")


def spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    """Median, and the least and the largest round."""
    median, low, high = (form.format(v) for v in (statistics.median(values), min(values), max(values)))
    return f"{median} ({low} to {high})" if len(values) > 1 else median


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def progress(line: str) -> None:
    """To stderr, so that the tables can be kept alone: make bench > tables.md."""
    print(line, file=sys.stderr, flush=True)


def save(figures: Mapping[str, Any], path: Path) -> None:
    """As JSON; the folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    progress(f"wrote {path}")
