"""models.noise_device: the same words and integers as models.noise, in torch's int64, here on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from certify.models import engine_torch, noise_laws  # noqa: E402
from certify.models.bundle import find_bundle, load_manifest  # noqa: E402
from certify.models.engine_torch import CudaEngine, TorchEngine  # noqa: E402
from certify.models.networks import load_networks  # noqa: E402
from certify.models.noise import numpy_noise  # noqa: E402
from certify.models.noise_device import block_numbers, device_noise, law_tensors, philox_4x64, signed  # noqa: E402
from certify.models.noise_laws import Law, law_of  # noqa: E402
from certify.models.pipeline import Pipeline  # noqa: E402
from tests import pictures  # noqa: E402

SHAPE = (32, 3, 4, 4)
# On both sides of the places where a half or a whole word overflows.
EDGES = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**63 - 1, 2**63, 2**64 - 2**32, 2**64 - 1]


def drawn(law: Law, seed: int, chunks: list[int], shape: tuple[int, ...] = SHAPE) -> Any:
    return device_noise(
        torch.tensor(signed(seed)), torch.tensor(chunks), block_numbers(shape, "cpu"), *law_tensors(law, "cpu"), shape
    )


def test_the_words_are_philox_4x64_10_on_every_side_of_an_overflow() -> None:
    """numpy's, at every pair of edges as key and as counter."""
    for key in EDGES:
        for low, high in [(a, b) for a in EDGES for b in (1, 2**32, 2**64 - 1)]:
            theirs = np.random.Philox(
                key=np.array([key, low], np.uint64), counter=np.array([high - 1, low, 0, key], np.uint64)
            )
            counter = tuple(torch.tensor([signed(x)]) for x in (high, low, 0, key))
            ours = philox_4x64(counter, (torch.tensor(signed(key)), torch.tensor(signed(low))))
            assert [int(word) % 2**64 for word in ours] == theirs.random_raw(4).tolist()


@pytest.mark.parametrize(
    ("kind", "sigma"), [("gaussian", 0.12), ("gaussian", 1.0), ("laplace", 0.5), ("uniform", 0.25)]
)
def test_the_integers_are_numpys(kind: Any, sigma: float) -> None:
    law = law_of(kind, sigma)
    for seed in (0, 2**32 - 1, 2**63 + 5, 2**64 - 1):
        for first in (0, 2**32 - 1, 2**40):
            found = drawn(law, seed, [first, first + 1])
            assert found.dtype == torch.float32
            assert np.array_equal(found.numpy(), numpy_noise(law, seed, first, 2, SHAPE))


def test_chunks_are_the_same_in_any_company_and_a_size_that_is_no_multiple_of_four_is_cut() -> None:
    law = law_of("gaussian", 0.25)
    together = drawn(law, 1, [3, 0, 9])
    assert together.shape == (96, 3, 4, 4)
    assert torch.equal(together[32:64], drawn(law, 1, [0]))
    odd = drawn(law, 1, [5, 6], (1, 1, 1, 3))
    assert torch.equal(odd.flatten()[:3], drawn(law, 1, [5], (1, 1, 1, 4)).flatten()[:3])


def test_scales_of_one_table_length_share_it() -> None:
    lengths = {sigma: len(law_tensors(law_of("gaussian", sigma), "cpu")[0]) for sigma in (0.12, 0.25, 0.3, 0.5, 1.0)}
    assert lengths == {0.12: 1024, 0.25: 2048, 0.3: 2048, 0.5: 4096, 1.0: 8192}


def planted(monkeypatch: pytest.MonkeyPatch, seed: int, value: int) -> tuple[Law, int]:
    """A uniform law of which one threshold begins with the word of chunk 0's `value`; the integer below it."""
    law = Law("uniform", 0.25)
    k = int(numpy_noise(law, seed, 0, 1, (32, 1, 8, 8)).flat[value])
    stream = np.random.Philox(key=np.array([seed, 0], np.uint64), counter=0)
    word, exact = int(stream.random_raw(value + 1)[-1]), noise_laws.threshold

    def with_it(law: Law, place: int, bits: int) -> int:
        return word << bits - 64 if place == k else exact(law, place, bits)

    monkeypatch.setattr(noise_laws, "threshold", with_it)
    return Law("uniform", 0.25), k


def test_a_tie_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    law, k = planted(monkeypatch, 5, 700)
    ours, theirs = drawn(law, 5, [0], (32, 1, 8, 8)).flatten(), numpy_noise(law, 5, 0, 1, (32, 1, 8, 8)).ravel()
    assert torch.isnan(ours).nonzero().flatten().tolist() == [700]
    assert theirs[700] == k + 1  # its further words are above the zeros that were planted
    assert np.array_equal(np.delete(ours.numpy(), 700), np.delete(theirs, 700))


def test_a_tie_is_drawn_by_numpy_and_gets_its_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA engine's own code, not compiled. The NaN must be seen even if the network would hide it."""
    monkeypatch.setattr(engine_torch.torch, "compile", lambda module, **_: module)
    monkeypatch.setattr(torch.nn.functional, "conv2d", _deaf(torch.nn.functional.conv2d))
    law, _ = planted(monkeypatch, 5, 700)
    folder = find_bundle("digits")
    manifest, image, asked = load_manifest(folder), pictures.tensor(1), []
    pipelines = [
        Pipeline(kind(load_networks(folder, manifest), dtype="float32", device="cpu"), manifest, micro_batch=64)
        for kind in (CudaEngine, TorchEngine)
    ]
    for pipeline in pipelines:
        pipeline._laws[0.25] = law
    _count(monkeypatch, pipelines[0], asked)
    where = {"sigma": 0.25, "seed": 5, "first": 0, "count": 128}
    device, host = (pipeline.labels(image, **where).tolist() for pipeline in pipelines)
    assert device == host and asked == [2, 2]  # both micro-batches once more, by numpy
    votes = [pipeline.votes(image, **where).tolist() for pipeline in pipelines]
    assert votes[0] == votes[1] == np.bincount(host, minlength=10).tolist()


def _deaf(conv2d: Any) -> Any:
    return lambda x, *args, **kwargs: conv2d(torch.nan_to_num(x), *args, **kwargs)


def _count(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, asked: list[int]) -> None:
    again = pipeline._noise

    def noise(law: Law, seed: int, first: int, count: int, shape: tuple[int, ...]) -> Any:
        asked.append(count)
        return again(law, seed, first, count, shape)

    monkeypatch.setattr(pipeline, "_noise", noise)
