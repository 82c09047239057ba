"""How fast a backend answered lately: what is slow for one machine is a stall for another."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from weakref import WeakKeyDictionary

from ..backends.base import Backend

__all__ = ("Pace", "pace_of")

# Of the last calls: the looks of a few requests. A median of so many is not moved by one that waited long.
_LATELY = 32


class Pace:
    """Of one backend. Only calls that were answered count: a stall says nothing of how long work takes."""

    def __init__(self) -> None:
        self._rates: deque[float] = deque()  # seconds a sample, the latest last
        self._sorted: list[float] = []  # the same, so that each call can ask for their median

    def took(self, samples: int, seconds: float) -> None:
        self._rates.append(seconds / samples)
        insort(self._sorted, seconds / samples)
        if len(self._rates) > _LATELY:
            del self._sorted[bisect_left(self._sorted, self._rates.popleft())]

    def seconds(self, samples: int) -> float:
        """What a call for so many samples took lately; 0 before the first."""
        rates = self._sorted
        return (rates[len(rates) // 2] + rates[(len(rates) - 1) // 2]) / 2 * samples if rates else 0.0


# Requests come and go; what one saw of the backend serves the next.
_PACES: WeakKeyDictionary[Backend, Pace] = WeakKeyDictionary()


def pace_of(backend: Backend) -> Pace:
    if (pace := _PACES.get(backend)) is None:
        pace = _PACES[backend] = Pace()
    return pace
