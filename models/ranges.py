"""Ranges of sample numbers, cut into pieces: one rule for all that draw, ask or count piece by piece."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ("cut",)


def cut(first: int, count: int, step: int) -> Iterator[tuple[int, int]]:
    """[first, first + count) cut at the multiples of `step`, as (low, high), ascending and lazily; none if count is 0.

    Cutting at multiples, not at first + i * step, gives a sample the same piece whatever was asked for around it.
    Raises ValueError unless first >= 0, count >= 0 and step >= 1.
    """
    if first < 0 or count < 0 or step < 1:
        raise ValueError(f"expected first >= 0, count >= 0 and step >= 1, got {first}, {count} and {step}")
    end = first + count
    cuts = range(first - first % step, end, step) if count else range(0)
    return ((max(first, at), min(end, at + step)) for at in cuts)
