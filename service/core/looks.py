"""When to look at a level's votes, and what each look spends. Heuristic, see docs/protocol.md, 4.1."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

__all__ = ("Look", "max_looks", "radius_looks")

# Measured for max mode in docs/protocol.md, 4.4, and for radius mode in docs/protocol.md, 4.5.
LOOK_RATIO = 1.5  # each look has half as many draws again: a late decision costs at most that much too much
EARLY_RATIO = 2.0  # max mode: early looks only serve deadlines and futility; fewer of them keep batches whole
FIRST_LOOK = 64  # max mode: below this no useful radius comes out, and each early look costs alpha
EARLY_UNTIL = 0.75  # max mode: no early look this close to the heavy one
EARLY_SHARE = EXTENSION_SHARE = 0.1  # max mode: what early looks and extensions may spend; the heavy look has the rest
EXTENSIONS = 6  # max mode: 1.5^6 = 11 times the plan, more than any budget leaves
_CACHED = 512  # schedules kept, some KiB each: requests come with few different parameters
LAST_SHARE = 0.5  # radius mode: the cap's share, which hard images need; the earlier looks divide the rest


class Look(NamedTuple):
    """A planned look: at the level's first `samples` draws, spending `share` of the level's error."""

    samples: int
    share: float


def _merged(looks: Iterable[tuple[int, float]], grain: int, cap: int) -> tuple[Look, ...]:
    """(samples, share), ascending, rounded up to the grain and cut at `cap`; equal ones become one, shares added."""
    merged: dict[int, float] = {}
    for samples, share in looks:
        size = min(-(-samples // grain) * grain, cap)
        if size > 0:
            merged[size] = merged.get(size, 0.0) + share
    return tuple(map(Look._make, merged.items()))


@lru_cache(maxsize=_CACHED)
def max_looks(planned: int, cap: int, grain: int, *, single: bool = False) -> tuple[Look, ...]:
    """Early looks for deadlines and futility, one heavy look where the plan ends, extensions for what is left over.

    planned: draws at which the plan ends. cap: draws that no look exceeds; below the grain it leaves no look. grain:
    looks are multiples of it (docs/protocol.md, 6.2). single: the heavy look alone, with the whole share. Shares sum to
    1 at most.
    """
    cap -= cap % grain
    planned = max(1, min(planned, cap))
    if single:
        return _merged([(planned, 1.0)], grain, cap)
    early = []
    size: float = FIRST_LOOK
    while size < EARLY_UNTIL * planned:
        early.append(math.ceil(size))
        size *= EARLY_RATIO
    extensions = [math.ceil(planned * LOOK_RATIO**i) for i in range(1, EXTENSIONS + 1)]
    heavy = 1.0 - EXTENSION_SHARE - (EARLY_SHARE if early else 0.0)
    looks = [(n, EARLY_SHARE / len(early)) for n in early]
    looks.append((planned, heavy))
    looks += [(n, EXTENSION_SHARE / EXTENSIONS) for n in extensions]
    return _merged(looks, grain, cap)


@lru_cache(maxsize=_CACHED)
def radius_looks(target: float, error: float, cap: int, grain: int, *, single: bool = False) -> tuple[Look, ...]:
    """Looks for one requested radius: from the first n at which a unanimous count would do, by 1.5, up to `cap`.

    target: the probability that the label must exceed (for a shield: 1 minus the one its rivals must stay under).
    error: what the level may spend. cap, grain, single: as for max_looks, but the single look is at the cap.
    """
    cap -= cap % grain
    if cap <= 0:
        return ()
    if single or not 0.0 < target < 1.0 or error <= 0.0:
        return (Look(cap, 1.0),)
    first: float = 0.0
    count, last = 0, cap / 1.1  # a look within 10% of the cap would only take error from it
    for _ in range(4):  # the first look's share depends on how many looks there are: a few rounds settle it
        share = (1 - LAST_SHARE) / max(count, 1)
        size = first = float(math.floor(math.log(error * share) / math.log(target)) + 1)
        count = 0
        while size < last:
            size *= LOOK_RATIO
            count += 1
    sizes = []
    for _ in range(count):
        sizes.append(math.ceil(first))
        first *= LOOK_RATIO
    if not sizes:
        return (Look(cap, 1.0),)
    share = (1 - LAST_SHARE) / len(sizes)
    return _merged([*((n, share) for n in sizes), (cap, LAST_SHARE)], grain, cap)
