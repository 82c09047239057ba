from __future__ import annotations

import dataclasses
import hashlib
import hmac
import struct

import pytest

from certify.service.answering.seeds import SeedScope, key_from_number, random_key

KEY = bytes(range(32))
SCOPE = SeedScope(
    tensor_sha256=hashlib.sha256(b"tensor").digest(),
    bundle_digest="sha256:" + "ab" * 32,
    sigmas=(0.25, 0.5),
    alpha=0.001,
    thresholds=(0.5, 0.6),
    final="plurality",
    chunks=312,
    radius=0.5,
    norm="l2",
)
# Made by the encoding that the next test spells out, on the day the scheme was fixed.
PINNED = (9741669621400770639, 8844013521340625372, 18216807913823423571)


def test_seeds_are_pinned_so_that_an_upgrade_cannot_change_answers_in_silence() -> None:
    assert SCOPE.seed(KEY, "pilot", 0.25) == PINNED[0]
    assert SCOPE.seed(KEY, "estimation", 0.5) == PINNED[1]
    assert dataclasses.replace(SCOPE, radius=None).seed(KEY, "estimation", 0.5) == PINNED[2]


def test_the_seed_is_the_documented_hmac_of_length_prefixed_parts() -> None:
    parts = [
        b"certify-seed-v1",
        SCOPE.tensor_sha256,
        SCOPE.bundle_digest.encode(),
        struct.pack("<2d", 0.25, 0.5),
        struct.pack("<d", 0.001),
        struct.pack("<2d", 0.5, 0.6),
        b"plurality",
        (312).to_bytes(8, "little"),
        struct.pack("<d", 0.5),
        b"l2",
        b"pilot",
        struct.pack("<d", 0.25),
    ]
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    expected = int.from_bytes(hmac.new(KEY, message, "sha256").digest()[:8], "big")
    assert SCOPE.seed(KEY, "pilot", 0.25) == expected
    assert 0 <= expected < 2**64


@pytest.mark.parametrize(
    "change",
    [
        {"tensor_sha256": hashlib.sha256(b"another").digest()},
        {"bundle_digest": "sha256:" + "ac" * 32},
        {"sigmas": (0.25, 1.0)},
        {"sigmas": (0.25,), "thresholds": (0.5,)},
        {"alpha": 0.002},
        {"thresholds": (0.5, 0.5)},
        {"final": "threshold"},
        {"chunks": 313},
        {"radius": 0.25},
        {"radius": None},
        {"norm": "linf"},
    ],
    ids=lambda change: ",".join(change),
)
def test_any_other_parameter_gets_other_noise(change: dict[str, object]) -> None:
    other = dataclasses.replace(SCOPE, **change)  # type: ignore[arg-type]
    assert other.seed(KEY, "pilot", 0.25) != SCOPE.seed(KEY, "pilot", 0.25)


def test_purpose_sigma_and_key_get_streams_of_their_own() -> None:
    seeds = {
        SCOPE.seed(key, purpose, sigma)
        for key in (KEY, random_key(), key_from_number(1), key_from_number(11))
        for purpose in ("pilot", "estimation")
        for sigma in SCOPE.sigmas
    }
    assert len(seeds) == 16


def test_a_numbered_key_repeats_and_a_random_one_does_not() -> None:
    assert key_from_number(7) == key_from_number(7)
    assert len(key_from_number(7)) == 32
    assert random_key() != random_key()
