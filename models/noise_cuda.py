"""The noise of a CUDA device, `cuda-philox-v1`: made where it is used, and a compiler can put it into one kernel.

    block i of chunk j of seed s = Philox4x32-10, key (s mod 2^32, s div 2^32), counter (i, 0, j mod 2^32, j div 2^32)
    its words a, b, c, d give four normals by Box and Muller (1958): r(a) cos 2 pi b, r(a) sin 2 pi b, then of c and d,
    where a word w stands for u = (w + 1/2) / 2^32 and r = sqrt(-2 ln u), in float32

Normals of a chunk are numbered along its samples, and within a sample along (C, H, W). The integers are the same on
every device, the logarithm and the cosine only to the last bit: the name stands for what a CUDA device makes of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ("device_noise", "philox_4x32")

_ROUNDS = 10  # of Philox, as its authors recommend for safety margin
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF


def device_noise(key: Tensor, chunks: Tensor, shape: tuple[int, ...]) -> Tensor:
    """cuda-philox-v1, several chunks, float32 (len(chunks) * chunk, C, H, W), on the device of `chunks`.

    key: int64 (2,), the seed's low and high 32 bits. chunks: int64 (n,), chunk numbers. shape: (chunk, C, H, W).
    """
    size = math.prod(shape)
    block = torch.arange(-(-size // 4), device=chunks.device)
    low, high = (chunks & _MASK)[:, None], ((chunks >> 32) & _MASK)[:, None]
    a, b, c, d = philox_4x32((block[None], torch.zeros_like(low), low, high), (key[0], key[1]))
    normals = torch.stack([*_box_muller(a, b), *_box_muller(c, d)], dim=-1).flatten(1)  # (n, 4 * blocks)
    return normals[:, :size].reshape(-1, *shape[1:])


def philox_4x32(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10's four words. All int64 tensors of values in [0, 2^32), of shapes that broadcast."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for turn in range(_ROUNDS):
        if turn:
            k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
        high0, low0 = _multiply(x0, _MULTIPLIERS[0])
        high1, low1 = _multiply(x2, _MULTIPLIERS[1])
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
    return x0, x1, x2, x3


def _multiply(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a product below 2^64. int64 wraps, but keeps the bits."""
    product = x * factor
    return (product >> 32) & _MASK, product & _MASK


def _box_muller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two normals of two words. A word's half step keeps the logarithm finite; the largest is 6.7."""
    radius = torch.sqrt(-2.0 * torch.log(_uniform(a)))
    angle = (2.0 * math.pi) * _uniform(b)
    return radius * torch.cos(angle), radius * torch.sin(angle)


def _uniform(word: Tensor) -> Tensor:
    return (word.to(torch.float32) + 0.5) * 2.0**-32
