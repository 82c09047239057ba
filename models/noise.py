"""The noise of a stream, chunk by chunk, in whole grey steps: `philox-int-1`, of which each word is the definition.

Value i of chunk j of seed s, the chunk's (chunk, C, H, W) values numbered in C order, is models.noise_laws' integer of

    u = 0.w0 w1 w2 ...    wm = word i mod 4 of Philox4x64-10, key (s, j), counter (i div 4 + 1, m, 0, 0)

(Salmon et al. 2011; numpy counts up before each block, so its counter 0 gives block 1). One word nearly always decides:
w0 equals a threshold's first 64 bits once in 4 * 10^15 values at sigma 1. Whatever part of a stream is read, whoever
reads it, on whatever device (models.noise_device) gets the same integers.

Noise of kind `splitting` is not drawn: sample n of a stream of any seed has offset (n + v) mod N at each place, where N
is the cell in grey steps and v, of place p in (C, H, W), is w0 of value p of seed 0, chunk 0, modulo N.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .noise_laws import GREY_STEPS, Law

__all__ = ("GENERATOR", "add_noise", "grey_steps", "numpy_noise")

GENERATOR = "philox-int-1"
_PIECE = 2**16  # values made together: their words stay in a core's cache
_UPPER = slice(3 if sys.byteorder == "little" else 0, None, 4)  # the upper 16 bits of 64


def numpy_noise(law: Law, seed: int, first: int, count: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Chunks first..first+count-1: whole numbers of grey steps, float32 (count * chunk, C, H, W).

    seed: uint64. first: a chunk's number, at least 0. shape: (chunk, C, H, W).
    """
    if law.cell:
        return _offsets(law.cell, first * shape[0], count * shape[0], shape[1:])
    size = math.prod(shape)
    values = np.empty((count, size), dtype=np.float32)
    together = max(1, _PIECE // size)
    for low in range(0, count, together):
        chunks = range(first + low, first + min(count, low + together))
        streams = [_philox(seed, chunk, 0, 0) for chunk in chunks]
        for at in range(0, size, _PIECE):
            high = min(size, at + _PIECE)
            words = np.concatenate([stream.random_raw(high - at) for stream in streams])
            part, ties = _integers(law, words)
            for tie in ties:
                row, column = divmod(tie, high - at)
                part[tie] = law.decide(_digits(seed, chunks[row], at + column), near=int(part[tie]))
            values[low : low + len(chunks), at:high] = part.reshape(len(chunks), -1)
    whole: NDArray[np.float32] = values.reshape(-1, *shape[1:])
    return whole


def _integers(law: Law, words: NDArray[np.uint64]) -> tuple[NDArray[np.float32], list[int]]:
    """The integers of numbers that begin with these words, and where further words must decide."""
    values: NDArray[np.float32] = np.take(law.guide, words.view(np.uint16)[_UPPER], mode="clip")
    left = np.flatnonzero(np.isnan(values))  # by the guide; of digits at 0.5 one in 70
    found = np.searchsorted(law.words, words[left])
    values[left] = found + law.lowest
    return values, left[law.words[found] == words[left]].tolist()


def grey_steps(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pixels' whole numbers, float32 of 0..255. image: float32 in [0, 1], each value n / 255 rounded to float32.

    Raises ValueError for any other: a certificate is about 8-bit images.
    """
    steps: NDArray[np.float32] = np.rint(image * np.float32(GREY_STEPS))
    if not np.array_equal(steps / np.float32(GREY_STEPS), image):
        raise ValueError("image: expected values n / 255 with whole n, as of an 8-bit picture, got others")
    whole: NDArray[np.float32] = steps
    return whole


def add_noise(law: Law, pixels: Any, noise: Any, steps: Any) -> Any:
    """What the network sees, float32 (N, C, H, W) in [0, 1] and beyond, by one rounding of an exact number.

    pixels: grey_steps of an image. noise: of `law`. steps: GREY_STEPS as an array: torch divides by a plain number on a
    CUDA device by multiplying, which rounds otherwise. All of one library, numpy or torch.
    """
    if law.cell:  # the middle of the cell that a pixel lies in, whose borders are at the offset
        noise = (law.cell - 1) / 2 - (pixels - noise) % law.cell
    return (pixels + noise) / steps


def _offsets(cell: int, first: int, count: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    places = (_philox(0, 0, 0, 0).random_raw(math.prod(shape)) % np.uint64(cell)).astype(np.int64)
    samples = np.arange(first, first + count)[:, None]
    return ((samples + places) % cell).astype(np.float32).reshape(-1, *shape)


def _digits(seed: int, index: int, value: int) -> Iterator[int]:
    """w0, w1, w2, ... of a value of a chunk."""
    m = 0
    while True:
        yield int(_philox(seed, index, value // 4, m).random_raw(4)[value % 4])
        m += 1


def _philox(seed: int, index: int, block: int, m: int) -> np.random.Philox:
    """The word stream from block + 1 on."""
    key, counter = np.array([seed, index], dtype=np.uint64), np.array([block, m, 0, 0], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter)
