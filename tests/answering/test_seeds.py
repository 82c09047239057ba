from __future__ import annotations

import dataclasses
import hashlib
import hmac
import struct

import pytest

from certify.service.answering.seeds import SeedScope, fingerprint, key_from_number, random_key

KEY = bytes(range(32))
SCOPE = SeedScope(
    tensor_sha256=hashlib.sha256(b"tensor").digest(),
    bundle_digest="sha256:" + "ab" * 32,
    sigmas=(0.25, 0.5),
    alpha=0.001,
    thresholds=(0.5, 0.6),
    final="plurality",
    chunks=312,
    target=0.5,
    generator="philox-int-1",
    device="cpu",
    engine="torch",
    dtype="float32",
    micro_batch=64,
)
# Made by the encoding that the next test spells out, on the day the scheme was fixed.
PINNED = (1609713255503267750, 5509333388324486771, 3271586912454504688)


def test_seeds_are_pinned_so_that_an_upgrade_cannot_change_answers_in_silence() -> None:
    assert SCOPE.seed(KEY, "pilot", 0.25) == PINNED[0]
    assert SCOPE.seed(KEY, "estimation", 0.5) == PINNED[1]
    assert dataclasses.replace(SCOPE, target=None).seed(KEY, "estimation", 0.5) == PINNED[2]


def test_the_seed_is_the_documented_hmac_of_length_prefixed_parts() -> None:
    parts = [
        b"certify-seed-v2",
        SCOPE.tensor_sha256,
        SCOPE.bundle_digest.encode(),
        struct.pack("<2d", 0.25, 0.5),
        struct.pack("<d", 0.001),
        struct.pack("<2d", 0.5, 0.6),
        b"plurality",
        (312).to_bytes(8, "little"),
        struct.pack("<d", 0.5),
        b"certify-plan-2",
        b"philox-int-1",
        b"cpu\0torch\0float32\0",
        (64).to_bytes(8, "little"),
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
        {"target": 0.25},
        {"target": None},
        {"generator": "philox-int-2"},
        {"device": "cuda"},
        {"engine": "openvino-graph-1"},
        {"dtype": "bfloat16"},
        {"micro_batch": 128},
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


def test_a_key_has_a_fingerprint_that_tells_it_from_others() -> None:
    assert fingerprint(KEY) == hmac.new(KEY, b"certify-key-fingerprint-v1", "sha256").hexdigest()[:16]
    assert len({fingerprint(key) for key in (KEY, random_key(), random_key(), key_from_number(1))}) == 4
