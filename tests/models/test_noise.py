"""models.noise: generators that never change, checked against their authors' answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from certify.models.noise_cuda import device_noise, philox_4x32  # noqa: E402

SHAPE = (32, 3, 4, 4)


def key(seed: int) -> torch.Tensor:
    return torch.tensor([seed & 0xFFFFFFFF, seed >> 32])


@pytest.mark.parametrize(
    ("counter", "words", "answer"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_4x32_10_gives_random123s_known_answers(counter: list[int], words: list[int], answer: str):
    found = philox_4x32(tuple(torch.tensor([c]) for c in counter), (torch.tensor(words[0]), torch.tensor(words[1])))
    assert " ".join(f"{int(word):08x}" for word in found) == answer


def test_a_chunk_is_the_written_formula():
    """Normal number 4 i + 2 of chunk j, by hand."""
    seed, chunk, block = 0x0123456789ABCDEF, 2**33 + 7, 5
    words = philox_4x32(
        tuple(torch.tensor([v]) for v in (block, 0, chunk & 0xFFFFFFFF, chunk >> 32)),
        (torch.tensor(seed & 0xFFFFFFFF), torch.tensor(seed >> 32)),
    )
    c, d = int(words[2]), int(words[3])
    expected = math.sqrt(-2 * math.log((c + 0.5) / 2**32)) * math.cos(2 * math.pi * (d + 0.5) / 2**32)
    noise = device_noise(key(seed), torch.tensor([chunk]), SHAPE)
    assert float(noise.flatten()[4 * block + 2]) == pytest.approx(expected, abs=1e-5)


def test_chunks_are_the_same_in_any_company():
    together = device_noise(key(1), torch.tensor([3, 0, 9]), SHAPE)
    assert together.shape == (96, 3, 4, 4) and together.dtype == torch.float32
    assert torch.equal(together[32:64], device_noise(key(1), torch.tensor([0]), SHAPE))
    assert torch.equal(together[:32], device_noise(key(1), torch.tensor([3]), SHAPE))


def test_a_size_that_is_no_multiple_of_four_is_cut():
    assert device_noise(key(1), torch.tensor([0, 1]), (32, 1, 3, 3)).shape == (64, 1, 3, 3)
    odd = device_noise(key(1), torch.tensor([5]), (1, 1, 1, 3)).flatten()
    assert torch.equal(odd, device_noise(key(1), torch.tensor([5]), (1, 1, 1, 4)).flatten()[:3])


def test_every_bit_of_seed_and_chunk_counts():
    seeds = [1, 2, 1 + 2**32, 2**63 + 1]
    chunks = [0, 1, 2**32]
    found = {
        tuple(device_noise(key(seed), torch.tensor([chunk]), (1, 1, 2, 2)).flatten().tolist())
        for seed in seeds
        for chunk in chunks
    }
    assert len(found) == len(seeds) * len(chunks)


def test_the_normals_are_normal():
    """Half a million of one seed: four moments within five standard errors, and the tails are there."""
    values = device_noise(key(7), torch.arange(320), SHAPE).flatten().double().numpy()
    n = len(values)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(values**power) - moment) < 5 * math.sqrt(variance / n)
    beyond = np.mean(np.abs(values) > 3)  # 0.0027
    assert abs(beyond - 0.0026998) < 5 * math.sqrt(0.0027 / n)
    assert 4.2 < np.abs(values).max() < 6.7
    neighbours = np.corrcoef(values[:-1], values[1:])[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(n)
