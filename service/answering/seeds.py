"""The seed of every noise stream: clients can neither choose nor predict it, and no two requests share one.

    seed = first 8 bytes, big-endian, of HMAC-SHA256(key, message)
    message = concatenation, for each part in order, of (its length in bytes as uint64 big-endian) and the part

Each part carries its length and their number is fixed: two different requests never encode to the same message.
The parts, with f64 meaning IEEE 754 binary64 little-endian and u64 an unsigned 64-bit little-endian integer:

    1  the scheme, b"certify-seed-v1"            7  final, UTF-8
    2  SHA-256 of the certified tensor, 32 bytes  8  samples in chunks, u64
    3  the bundle's digest, UTF-8                9  requested radius as given, f64; empty when there is none
    4  sigmas, ascending, f64 each              10  norm, UTF-8
    5  alpha, f64                               11  purpose ("pilot" or "estimation"), UTF-8
    6  thresholds, one per sigma, f64 each      12  this stream's sigma, f64

All parameters are in it because answers show counts: a client who could cut the same stream anew after seeing it would
break alpha. The deadline is not: stopping early is paid for in the bounds (docs/protocol.md, 3.3).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass
from functools import cached_property

__all__ = ("SeedScope", "key_from_number", "random_key")

SCHEME = b"certify-seed-v1"


@dataclass(frozen=True, kw_only=True)
class SeedScope:
    """Everything that names one request's noise. Two equal scopes under one key give equal seeds, others do not."""

    tensor_sha256: bytes  # 32 bytes, of the little-endian float32 (C, H, W) tensor
    bundle_digest: str
    sigmas: tuple[float, ...]  # ascending
    alpha: float
    thresholds: tuple[float, ...]  # one per sigma
    final: str
    chunks: int  # samples / chunk
    radius: float | None  # as requested, in the units of norm
    norm: str

    def seed(self, key: bytes, purpose: str, sigma: float) -> int:
        """The uint64 seed of the stream (purpose, sigma)."""
        message = self._request + _parts(purpose.encode(), _floats((sigma,)))
        return int.from_bytes(hmac.digest(key, message, "sha256")[:8], "big")

    @cached_property
    def _request(self) -> bytes:
        """The message's first ten parts, which all streams of a request share."""
        return _parts(
            SCHEME,
            self.tensor_sha256,
            self.bundle_digest.encode(),
            _floats(self.sigmas),
            _floats((self.alpha,)),
            _floats(self.thresholds),
            self.final.encode(),
            struct.pack("<Q", self.chunks),
            b"" if self.radius is None else _floats((self.radius,)),
            self.norm.encode(),
        )


def random_key() -> bytes:
    """A key that nobody knows, gone with the process: answers repeat on this replica only."""
    return secrets.token_bytes(32)


def key_from_number(number: int) -> bytes:
    """The key of `certify image --seed N`: repeatable by anyone, so only for those who ask about their own images."""
    return hashlib.sha256(b"certify-seed-number-v1:" + str(number).encode()).digest()


def _parts(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">Q", len(part)) + part for part in parts)


def _floats(values: tuple[float, ...]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)
