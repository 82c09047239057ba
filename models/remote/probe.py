"""Known pictures: what they are, and whether an endpoint answers them as a function of each picture by itself.

The pictures follow from the declared input alone, so that they are the same at every start and on every machine. Their
classes stand in the manifest. One of them goes along with each call that has room for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import RemoteError
from .answers import Answer
from .declared import KNOWN, Input

__all__ = ("known_pictures", "probed")

SEED = 2  # any will do; another one makes other pictures, and every `known` of earlier bundles wrong
COARSE = 4  # fields a side: pictures of few colours, which classifiers tell apart
NOISES = (0.0, 0.25, 0.5)  # sigma, in turn
# Of the spread of all scores. A batch of another size moves a score by 1e-6 of it in float32 and 1e-3 in float16; a
# layer that still drops out, or an endpoint that changes its pictures at random, by far more.
TOLERANCE = 0.01
FEW = 5  # of them in a call the second time: other neighbours than when all are together
MOST_TOGETHER = 64  # as many as are computed together here

Ask = Callable[[NDArray[np.float32]], Awaitable[Answer]]


def known_pictures(declared: Input) -> NDArray[np.float32]:
    """float32 (KNOWN, C, H, W), scaled and normalised as declared."""
    generator = np.random.Generator(np.random.Philox(SEED))
    height, width = declared.size
    rows, columns = np.arange(height) * COARSE // height, np.arange(width) * COARSE // width
    fields = generator.random((KNOWN, declared.channels, COARSE, COARSE))
    noise = generator.standard_normal((KNOWN, *declared.shape))
    sigmas = np.array([NOISES[number % len(NOISES)] for number in range(KNOWN)])
    pixels = fields[:, :, rows][..., columns] + sigmas[:, None, None, None] * noise
    mean, std = (np.array(values)[:, None, None] for values in (declared.mean, declared.std))
    pictures: NDArray[np.float32] = (declared.scale * (pixels - mean) / std).astype(np.float32)
    return pictures


async def probed(ask: Ask, declared: Input, max_batch: int) -> tuple[int, ...]:
    """The known pictures' classes. They are asked twice, the second time backwards and in calls of another size.

    Raises RemoteError if an answer depends on a picture's place, its neighbours, the call's size or the time.
    """
    pictures = known_pictures(declared)
    together = min(max_batch, MOST_TOGETHER)
    # All in one call if it holds them, and again and again until it is full.
    first = [number % KNOWN for number in range(max(KNOWN, together))]
    second = list(range(KNOWN))[::-1]
    seen: dict[int, tuple[int, NDArray[np.float64] | None]] = {}
    shifts: list[float] = []
    spread = 0.0
    for order, size in ((first, together), (second, min(FEW, 1 + together // 4))):
        for at in range(0, len(order), size):
            numbers = order[at : at + size]
            answer = await ask(pictures[numbers])
            for row, number in enumerate(numbers):
                label, scores = int(answer.labels[row]), None if answer.scores is None else answer.scores[row]
                before = seen.setdefault(number, (label, scores))
                if before[0] != label:
                    raise _not_a_function(f"the same picture got class {before[0]} and then {label}")
                if scores is not None and before[1] is not None:
                    spread = max(spread, float(np.ptp(scores)))
                    shifts.append(float(np.abs(scores - before[1]).max()))
    if shifts and max(shifts) > TOLERANCE * spread:
        raise _not_a_function(f"a picture's scores, which spread over {spread:.3g}, moved by {max(shifts):.3g}")
    return tuple(seen[number][0] for number in range(KNOWN))


def _not_a_function(seen: str) -> RemoteError:
    return RemoteError(
        "expected the same answer for a picture whatever its place, its neighbours and the time, since only a fixed "
        f"function of a picture by itself can be certified; {seen}"
    )
