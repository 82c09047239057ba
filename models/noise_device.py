"""`philox-int-1` (models.noise) in integer arithmetic of torch tensors: made where it is used, compiled to one kernel.

torch has no unsigned 64-bit integers to calculate with. int64 has the same bits: sums and products wrap as they should,
the upper half of a product is put together from 32-bit halves, and words are compared with their upper bit turned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .noise_laws import Law

__all__ = ("block_numbers", "device_noise", "law_tensors", "philox_4x64", "signed")

_ROUNDS = 10  # of Philox, as its authors recommend for safety margin
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_HALF = 0xFFFFFFFF
_TOP = -(2**63)  # an int64's upper bit


def law_tensors(law: Law, device: str) -> tuple[Tensor, Tensor]:
    """The law as device_noise wants it: its words, ascending as int64, and its lowest integer. For drawn noise.

    Filled up to a power of two: scales whose tables have one length share one compiled kernel.
    """
    words = [signed(int(word)) ^ _TOP for word in law.words]
    words += words[-1:] * (2 ** (len(words) - 1).bit_length() - len(words))
    return torch.tensor(words, device=device), torch.tensor(law.lowest, device=device)


def device_noise(
    key: Tensor, chunks: Tensor, block: Tensor, words: Tensor, lowest: Tensor, shape: tuple[int, ...]
) -> Tensor:
    """Several chunks: whole numbers, float32 (len(chunks) * chunk, C, H, W), on the device of `chunks`.

    key: int64 (), the seed's bits. chunks: int64 (n,), chunk numbers. block: see block_numbers. words, lowest: see
    law_tensors. shape: (chunk, C, H, W). NaN for a value that one word does not decide: models.noise knows it.
    """
    size = math.prod(shape)
    zero = block & 0
    drawn = torch.stack(philox_4x64((block, zero, zero, zero), (key, chunks[:, None])), dim=-1).flatten(1)[:, :size]
    place = torch.searchsorted(words, (drawn ^ _TOP).contiguous())
    value = (place + lowest).to(torch.float32)
    return torch.where(words[place] == drawn ^ _TOP, math.nan, value).reshape(-1, *shape[1:])


def block_numbers(shape: tuple[int, ...], device: str) -> Tensor:
    """Of a chunk's blocks of four words, int64 (1, blocks), from 1.

    An argument of device_noise: of an arange inside it torch's compiler makes 32-bit indices, which Philox's 64-bit
    factors do not fit.
    """
    return torch.arange(1, 1 + -(-math.prod(shape) // 4), device=device)[None]


def philox_4x64(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x64-10's four words. All int64 tensors of unsigned 64-bit words' bits, of shapes that broadcast."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for turn in range(_ROUNDS):
        if turn:
            k0, k1 = k0 + signed(_WEYL[0]), k1 + signed(_WEYL[1])
        high0, low0 = _multiply(x0, _MULTIPLIERS[0])
        high1, low1 = _multiply(x2, _MULTIPLIERS[1])
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
    return x0, x1, x2, x3


def signed(word: int) -> int:
    """The int64 of an unsigned 64-bit word's bits."""
    return word - 2**64 if word >= 2**63 else word


def _multiply(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Upper and lower 64 bits of the product of unsigned words."""
    high, low = factor >> 32, factor & _HALF
    x_high, x_low = (x >> 32) & _HALF, x & _HALF
    lower = x_low * low  # each of the four is below 2^64
    middle, other = x_low * high, x_high * low
    carry = ((lower >> 32) & _HALF) + (middle & _HALF) + (other & _HALF)
    upper = x_high * high + ((middle >> 32) & _HALF) + ((other >> 32) & _HALF) + (carry >> 32)
    return upper, x * signed(factor)
