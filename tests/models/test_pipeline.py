"""models.pipeline: noise that never changes, votes that depend on nothing but (image, sigma, seed, sample)."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
from certify.models.bundle import find_bundle  # noqa: E402
from certify.models.errors import BundleError  # noqa: E402
from certify.models.networks import load_networks  # noqa: E402
from certify.models.noise import chunk_noise  # noqa: E402
from certify.models.pipeline import Cancelled, Pipeline  # noqa: E402
from certify.models.runtime import RuntimeOptions, limit_threads, load_pipeline, options_for  # noqa: E402

SEED = 0x0123456789ABCDEF
SIGMA = 0.5
# (seed, chunk) -> the first row's first four, or for the last entry the last row's last four, of (32, 1, 8, 8) normals
GOLDEN: dict[tuple[int, int], list[float]] = {
    (0, 0): [0.059911035001277924, 0.015559634193778038, -1.1644384860992432, -0.13264712691307068],
    (0, 1): [-1.4314630031585693, 1.6707168817520142, -0.4027239680290222, -1.2956420183181763],
    (2**64 - 1, 7): [2.2778420448303223, 0.2470809519290924, -0.6570390462875366, 0.49117234349250793],
}


@pytest.fixture(scope="module", params=["torch", "openvino"])
def pipeline(request: pytest.FixtureRequest) -> Iterator[Pipeline]:
    """Every rule of the pipeline holds on every engine."""
    if request.param == "openvino":
        pytest.importorskip("openvino", reason="needs openvino (pip install 'certify[cpu]')")
    before = torch.get_num_threads()
    limit_threads()
    yield load_pipeline("digits", options_for(engine=request.param))
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def image() -> NDArray[np.float32]:
    """A smudge between the classes, so that votes are divided."""
    return np.random.default_rng(1).random((1, 8, 8), dtype=np.float32)


def test_noise_has_its_golden_values() -> None:
    """cpu-philox-v1 is defined by these: a numpy whose Philox or ziggurat differs must not go unnoticed."""
    first = chunk_noise(0, 0, (32, 1, 8, 8))
    assert first.dtype == np.float32
    assert first[0, 0, 0, :4].tolist() == GOLDEN[0, 0]
    assert chunk_noise(0, 1, (32, 1, 8, 8))[0, 0, 0, :4].tolist() == GOLDEN[0, 1]
    assert chunk_noise(2**64 - 1, 7, (32, 1, 8, 8))[31, 0, 7, 4:].tolist() == GOLDEN[2**64 - 1, 7]


def test_the_generator_below_the_noise_is_philox_4x64_10() -> None:
    """Random123's known answer for key 0 and counter 0; numpy counts up before each block, so one before 0."""
    raw = np.random.Philox(key=0, counter=2**256 - 1).random_raw(4)
    known = ["16554d9eca36314c", "db20fe9d672d0fdc", "d7e772cee186176b", "7e68b68aec7ba23b"]
    assert [f"{int(word):016x}" for word in raw] == known


def test_noise_is_unit_normal() -> None:
    """65,536 draws: mean within 5/256 and variance within 5 sqrt(2)/256 of 0 and 1, five standard errors each."""
    draws = np.concatenate([chunk_noise(SEED, j, (32, 1, 8, 8)).ravel() for j in range(32)]).astype(np.float64)
    assert abs(draws.mean()) < 5 / 256
    assert abs(draws.var() - 1) < 5 * 2**0.5 / 256


def test_chunks_and_seeds_have_streams_of_their_own() -> None:
    """Neither a neighbouring chunk nor a neighbouring seed shifts into another's stream."""
    keys = [(s, j) for s in (0, 1, 2**32, 2**63) for j in (0, 1, 2**31)]
    streams = [chunk_noise(s, j, (4, 1, 8, 8)).ravel() for s, j in keys]
    for i, a in enumerate(streams):
        for b in streams[:i]:
            assert len(np.intersect1d(a, b)) < 5  # float32 values may coincide, streams may not


def test_votes_are_the_same_in_any_cut(pipeline: Pipeline, image: NDArray[np.float32]) -> None:
    """Every start and length in chunks over 8 chunks, so that cuts fall on and between micro-batches."""
    whole = pipeline.labels(image, sigma=SIGMA, seed=SEED, first=0, count=256)
    assert len(np.unique(whole)) > 1
    for first in range(0, 256, 32):
        for count in range(32, 257 - first, 32):
            part = pipeline.labels(image, sigma=SIGMA, seed=SEED, first=first, count=count)
            assert part.tolist() == whole[first : first + count].tolist()
    votes = pipeline.votes(image, sigma=SIGMA, seed=SEED, first=32, count=160)
    assert votes.dtype == np.int64
    assert votes.tolist() == np.bincount(whole[32:192], minlength=10).tolist()


def test_votes_are_the_same_beside_other_threads(pipeline: Pipeline, image: NDArray[np.float32]) -> None:
    alone = pipeline.votes(image, sigma=SIGMA, seed=SEED, first=0, count=256).tolist()
    found: dict[int, list[list[int]]] = {}

    def work(number: int) -> None:
        limit_threads()
        seed = SEED if number % 2 == 0 else number
        found[number] = [pipeline.votes(image, sigma=SIGMA, seed=seed, first=0, count=256).tolist() for _ in range(4)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[2] == [alone] * 4
    assert found[1] != found[0]


def test_seed_and_sigma_change_the_votes(pipeline: Pipeline, image: NDArray[np.float32]) -> None:
    labels = [
        pipeline.labels(image, sigma=sigma, seed=seed, first=0, count=128).tolist()
        for sigma, seed in ((0.5, 1), (0.5, 2), (0.25, 1))
    ]
    assert labels[0] != labels[1] and labels[0] != labels[2]


def test_sampling_is_the_written_formula(pipeline: Pipeline, image: NDArray[np.float32]) -> None:
    """argmax classify(denoise(image + sigma * noise)), put together here by hand for one micro-batch, in float32."""
    options = RuntimeOptions(engine=pipeline.engine.name, dtype="float32")
    pipeline = load_pipeline("digits", options)
    size = pipeline.micro_batch
    noise = np.concatenate([chunk_noise(SEED, j, (32, 1, 8, 8)) for j in range(size // 32)])
    networks = load_networks(find_bundle("digits"), pipeline.manifest).each(lambda net: net.float())
    denoiser, classifier = networks.at(SIGMA)
    assert denoiser is not None
    with torch.inference_mode():
        noisy = torch.from_numpy(image) + SIGMA * torch.from_numpy(noise)
        logits = classifier(denoiser.denoise(noisy, SIGMA)).numpy()
    labels = pipeline.labels(image, sigma=SIGMA, seed=SEED, first=0, count=size)
    assert labels.tolist() == logits.argmax(axis=1).tolist()


def test_ties_go_to_the_lowest_class(pipeline: Pipeline) -> None:
    engine, logits = pipeline.engine, np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, 1.0, 5.0]], np.float32)
    assert engine.fetch(engine.labels(engine.place(logits))).tolist() == [1, 0, 2]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_no_vote(
    pipeline: Pipeline, image: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    def spoiled(noisy: Any, sigma: float) -> Any:
        logits = np.zeros((len(noisy), 10), np.float32)
        logits[5, 3] = bad
        return pipeline.engine.place(logits)

    monkeypatch.setattr(pipeline.engine, "logits", spoiled)
    for ask in (pipeline.votes, pipeline.labels):
        with pytest.raises(FloatingPointError, match="not finite for 2 of 128 samples"):
            ask(image, sigma=SIGMA, seed=SEED, first=0, count=128)


def test_parts_are_micro_batches_that_sum_to_the_votes(pipeline: Pipeline, image: NDArray[np.float32]) -> None:
    parts = list(pipeline.parts(image, sigma=SIGMA, seed=SEED, first=32, count=320, cancelled=lambda: False))
    assert [int(part.sum()) for part in parts] == [32, 64, 64, 64, 64, 32]
    votes = pipeline.votes(image, sigma=SIGMA, seed=SEED, first=32, count=320)
    assert sum(parts).tolist() == votes.tolist()


def test_a_caller_that_has_gone_is_computed_no_further(pipeline: Pipeline, image: NDArray[np.float32]) -> None:
    answers = iter([False, False, True])
    parts = pipeline.parts(image, sigma=SIGMA, seed=SEED, first=0, count=640, cancelled=lambda: next(answers))
    assert [int(next(parts).sum()) for _ in range(2)] == [64, 64]
    with pytest.raises(Cancelled):
        next(parts)


def test_memory_does_not_grow_with_the_number_of_samples(pipeline: Pipeline, image: NDArray[np.float32]) -> None:
    """numpy's and Python's allocations at the peak; torch's own are one micro-batch's at a time by construction."""

    def peak(count: int) -> int:
        tracemalloc.start()
        pipeline.votes(image, sigma=SIGMA, seed=SEED, first=0, count=count)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(64 * 32) < peak(32 * 4) + 100_000  # bytes; the noise of 64 chunks alone would be 520 kB


@pytest.mark.parametrize(("first", "count"), [(0, 0), (0, 33), (16, 32), (-32, 32), (0, -32)])
def test_a_range_off_the_chunks_is_refused(
    pipeline: Pipeline, image: NDArray[np.float32], first: int, count: int
) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        pipeline.votes(image, sigma=SIGMA, seed=SEED, first=first, count=count)


def test_a_micro_batch_must_hold_whole_chunks() -> None:
    with pytest.raises(BundleError, match="micro_batch: expected a multiple of 32, got 48"):
        load_pipeline("digits", options_for(engine="torch", micro_batch=48))
