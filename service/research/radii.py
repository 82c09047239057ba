"""Where a table of certified accuracy is cut, unless it is said: where the field cuts, as far as the data go."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ("radii_up_to",)

# Steps of .25 to 1 and of .5 beyond, as in the field's tables; past 4 nothing is published, and halves grow too many.
_FIELD = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
_CUTS = 5  # at least so many above 0, of data that end before the field's second cut, or go beyond its last
_STEPS = (1.0, 2.0, 2.5, 5.0)


def radii_up_to(largest: float) -> tuple[float, ...]:
    """0 and round radii up to the largest radius (>= 0) that is certified; at least one above 0.

    >>> radii_up_to(1.3)
    (0.0, 0.25, 0.5, 0.75, 1.0)
    >>> radii_up_to(0.2)
    (0.0, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2)
    """
    if largest <= 0.0:
        return _FIELD[:2]
    if _FIELD[2] <= largest < _FIELD[-1] + 0.5:
        return tuple(radius for radius in _FIELD if radius <= largest)
    step = max(step for step in _steps(largest) if largest / step >= _CUTS)
    return tuple(round(i * step, 12) for i in range(int(largest / step + 1e-9) + 1))


def _steps(largest: float) -> Iterable[float]:
    """Round numbers about the size of `largest`, and smaller ones."""
    decade = 1.0
    while decade > largest:
        decade /= 10.0
    while decade * 10.0 <= largest:
        decade *= 10.0
    return (step * decade / size for size in (1.0, 10.0, 100.0) for step in _STEPS)
