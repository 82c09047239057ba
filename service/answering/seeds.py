"""The seed of every noise stream: clients can neither choose nor predict it, and no two requests share one.

    seed = first 8 bytes, big-endian, of HMAC-SHA256(key, message)
    message = concatenation, for each part in order, of (its length in bytes as uint64 big-endian) and the part

Each part carries its length and their number is fixed: two different requests never encode to the same message.
The parts, with f64 meaning IEEE 754 binary64 little-endian and u64 an unsigned 64-bit little-endian integer:

    1  the scheme, b"certify-seed-v2"            9  target radius, f64; empty when there is none
    2  SHA-256 of the certified tensor, 32 bytes 10  the plan's version, b"certify-plan-2"
    3  the bundle's digest, UTF-8               11  generator, UTF-8
    4  sigmas, ascending, f64 each              12  device, engine and dtype, each UTF-8 and a zero byte
    5  alpha, f64                               13  micro-batch, u64
    6  thresholds, one per sigma, f64 each      14  purpose ("pilot" or "estimation"), UTF-8
    7  final, UTF-8                             15  this stream's sigma, f64
    8  samples in chunks, u64

A seed binds what a request means, however it is spelled: a claim that could be asked for in two ways would have two
draws, and with enough spellings a false one comes out. Hence the parts are canonical (service.answering.plans): the
target radius lies on the grid and is in the certificate's own norm, the finest threshold is 1/2 under plurality, where
nothing reads it, alpha and thresholds have few digits. And a seed binds whatever decides which draws are looked at, 10
to 13 among it: answers show counts, and a client who could have the same stream cut anew after seeing it would break
alpha. The deadline is not in it: stopping early is paid for in the bounds (docs/protocol.md, 3.3 and 6.3).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass
from functools import cached_property

__all__ = ("PLAN", "SCHEME", "SeedScope", "fingerprint", "key_from_number", "preview_seed", "random_key")

SCHEME = b"certify-seed-v2"
# Raised when the same request may be cut into other looks or pilots than before (service.core, docs/protocol.md, 4).
PLAN = b"certify-plan-2"


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
    target: float | None  # radius whose certificate meets the request, on the grid, in the certificate's norm
    generator: str
    device: str
    engine: str
    dtype: str
    micro_batch: int

    def seed(self, key: bytes, purpose: str, sigma: float) -> int:
        """The uint64 seed of the stream (purpose, sigma)."""
        message = self._request + _parts(purpose.encode(), _floats((sigma,)))
        return int.from_bytes(hmac.digest(key, message, "sha256")[:8], "big")

    @property
    def sha256(self) -> str:
        """Of the parts that all streams share, in hex: what a certificate binds."""
        return hashlib.sha256(self._request).hexdigest()

    @cached_property
    def _request(self) -> bytes:
        """The message's first 13 parts, which all streams of a request share."""
        return _parts(
            SCHEME,
            self.tensor_sha256,
            self.bundle_digest.encode(),
            _floats(self.sigmas),
            _floats((self.alpha,)),
            _floats(self.thresholds),
            self.final.encode(),
            struct.pack("<Q", self.chunks),
            b"" if self.target is None else _floats((self.target,)),
            PLAN,
            self.generator.encode(),
            b"".join(name.encode() + b"\0" for name in (self.device, self.engine, self.dtype)),
            struct.pack("<Q", self.micro_batch),
        )


def preview_seed(key: bytes, tensor_sha256: bytes, bundle_digest: str, sigma: float) -> int:
    """The uint64 seed of pictures that are shown, and never counted. Its message begins with a scheme of its own and
    has other parts, so that no certificate has this stream: whoever sees its noise knows nothing of another.
    """
    message = _parts(b"certify-preview-v1", tensor_sha256, bundle_digest.encode(), _floats((sigma,)))
    return int.from_bytes(hmac.digest(key, message, "sha256")[:8], "big")


def random_key() -> bytes:
    """A key that nobody knows, gone with the process: answers repeat on this replica only."""
    return secrets.token_bytes(32)


def key_from_number(number: int) -> bytes:
    """The key of `certify image --seed N`: repeatable by anyone, so only for those who ask about their own images."""
    return hashlib.sha256(b"certify-seed-number-v1:" + str(number).encode()).digest()


def fingerprint(key: bytes) -> str:
    """16 hex digits that tell keys apart and say nothing else about them."""
    return hmac.digest(key, b"certify-key-fingerprint-v1", "sha256").hex()[:16]


def _parts(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">Q", len(part)) + part for part in parts)


def _floats(values: tuple[float, ...]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)
