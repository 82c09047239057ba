"""What service.backends.base promises, of every backend."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from certify.service.backends.base import Backend, BackendInfo
from tests import pictures

pytestmark = pytest.mark.anyio

SEED = 2**64 - 59  # the upper half too: a signed or 32-bit seed on the way would show


def image_for(info: BackendInfo) -> NDArray[np.float32]:
    return pictures.tensor(1, info.input_shape)


async def votes(backend: Backend, *, seed: int = SEED, first: int = 0, chunks: int = 8) -> list[int]:
    """Votes as a list, at the coarsest scale; `first` in chunks too."""
    info = backend.info()
    found = await backend.count_votes(
        image_for(info), sigma=info.sigmas[-1], seed=seed, first=first * info.chunk, count=chunks * info.chunk
    )
    assert isinstance(found, np.ndarray) and found.dtype == np.int64
    return [int(v) for v in found]


async def test_info_describes_a_bundle(backend: Backend) -> None:
    info = backend.info()
    assert info == backend.info()
    assert info.bundle_digest.startswith("sha256:") and len(info.bundle_digest) == 7 + 64
    assert len(info.class_names) >= 2 and info.chunk >= 1
    assert all(0.5 <= p < 1 for p in info.thresholds)
    assert info.final in ("plurality", "threshold")
    assert info.runtime.generator and info.runtime.engine and info.runtime.dtype and info.runtime.device


async def test_the_protocols_methods_are_there_with_its_signatures(backend: Backend) -> None:
    for name in ("open", "close", "info", "count_votes", "chunk_votes", "classify"):
        ours, contract = inspect.signature(getattr(backend, name)), inspect.signature(getattr(Backend, name))
        assert list(ours.parameters) == list(contract.parameters)[1:]  # without self


async def test_votes_sum_to_the_count_with_one_entry_for_each_class(backend: Backend) -> None:
    for chunks in (1, 2, 5):
        found = await votes(backend, chunks=chunks)
        assert len(found) == len(backend.info().class_names)
        assert sum(found) == chunks * backend.info().chunk and min(found) >= 0


async def test_votes_by_chunk_are_each_chunks_own(backend: Backend) -> None:
    info = backend.info()
    found = await backend.chunk_votes(
        image_for(info), sigma=info.sigmas[-1], seed=SEED, first=3 * info.chunk, count=5 * info.chunk
    )
    assert found.shape == (5, len(info.class_names)) and found.dtype == np.int64
    assert found.tolist() == [await votes(backend, first=first, chunks=1) for first in range(3, 8)]


async def test_a_stream_reads_the_same_again_in_parts_and_out_of_order(backend: Backend) -> None:
    whole = await votes(backend, chunks=8)
    assert await votes(backend, chunks=8) == whole
    parts = [await votes(backend, first=first, chunks=chunks) for first, chunks in ((5, 3), (0, 1), (1, 4))]
    assert np.sum(parts, axis=0).tolist() == whole


async def test_votes_are_the_same_alone_and_beside_16_others(backend: Backend) -> None:
    alone = await votes(backend, chunks=6)
    others = [votes(backend, seed=n, first=n % 3, chunks=1 + n % 5) for n in range(16)]
    together = await asyncio.gather(*others[:8], votes(backend, chunks=6), *others[8:])
    assert together[8] == alone
    for n in (0, 7, 15):
        beside = together[n if n < 8 else n + 1]
        assert await votes(backend, seed=n, first=n % 3, chunks=1 + n % 5) == beside


async def test_seed_sigma_and_place_choose_the_stream(backend: Backend) -> None:
    info = backend.info()
    image = image_for(info)
    count = 64 * info.chunk  # many, so that different streams of one distribution differ in their counts

    async def ask(sigma: float, seed: int, first: int) -> list[int]:
        return (await backend.count_votes(image, sigma=sigma, seed=seed, first=first, count=count)).tolist()

    base = await ask(info.sigmas[-1], 1, 0)
    assert await ask(info.sigmas[-1], 2, 0) != base
    assert await ask(info.sigmas[-1], 1, count) != base
    assert await ask(info.sigmas[0], 1, 0) != base


async def test_the_image_may_change_hands_while_it_is_sampled(backend: Backend) -> None:
    """The caller may reuse its array as soon as the call is under way."""
    info = backend.info()
    image, count = image_for(info), 64 * info.chunk
    expected = await backend.count_votes(image, sigma=info.sigmas[-1], seed=3, first=0, count=count)
    call = asyncio.create_task(backend.count_votes(image, sigma=info.sigmas[-1], seed=3, first=0, count=count))
    await asyncio.sleep(0)
    image.fill(0.0)
    assert (await call).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"sigma": 0.123456},
        {"sigma": float("nan")},
        {"seed": -1},
        {"seed": 2**64},
        {"first": -1},
        {"first": 1},
        {"count": 0},
        {"count": -32},
        {"count": 33},
    ],
    ids=str,
)
async def test_arguments_out_of_range_are_refused(backend: Backend, change: dict[str, float]) -> None:
    info = backend.info()
    legal = {"sigma": info.sigmas[0], "seed": 0, "first": 0, "count": info.chunk}
    with pytest.raises(ValueError, match=rf"{next(iter(change))}: expected"):
        await backend.count_votes(image_for(info), **{**legal, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", ["shape", "dtype", "low", "high", "nan", "between grey steps"])
async def test_an_image_that_is_none_is_refused(backend: Backend, fault: str) -> None:
    info = backend.info()
    image = image_for(info)
    match fault:
        case "shape":
            image = image[:, :-1]
        case "dtype":
            image = image.astype(np.float64)  # type: ignore[assignment]
        case "low":
            image[0, 0, 0] = -0.01
        case "high":
            image[0, 0, 0] = 1.01
        case "nan":
            image[0, 0, 0] = np.nan
        case "between grey steps":
            image[0, 0, 0] = 0.5
    with pytest.raises(ValueError, match="image: expected"):
        await backend.count_votes(image, sigma=info.sigmas[0], seed=0, first=0, count=info.chunk)


async def test_classify_names_a_class_and_repeats_itself(backend: Backend) -> None:
    image = image_for(backend.info())
    label = await backend.classify(image)
    assert type(label) is int and 0 <= label < len(backend.info().class_names)
    assert await backend.classify(image) == label


async def test_a_cancelled_call_stops_and_leaves_the_backend_well(backend: Backend) -> None:
    """A call of ten million samples would run for half an hour: only if cancelling works does this test end."""
    before = await votes(backend, chunks=2)
    info = backend.info()
    long = asyncio.create_task(
        backend.count_votes(image_for(info), sigma=info.sigmas[0], seed=0, first=0, count=info.chunk * 320_000)
    )
    await asyncio.sleep(0)
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    assert await votes(backend, chunks=2) == before


async def test_close_twice_and_after_nothing(make_backend: Callable[[], Backend]) -> None:
    never_opened = make_backend()
    await never_opened.close()
    opened = make_backend()
    await opened.open()
    await opened.close()
    await opened.close()
