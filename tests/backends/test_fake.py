from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from certify.models.noises import offsets
from certify.service.backends import open_backend
from certify.service.backends.fake import FAKE_INFO, FakeBackend
from certify.service.errors import BackendUnavailable, SettingsError
from certify.service.settings import load_settings

pytestmark = pytest.mark.anyio

IMAGE = (np.arange(64, dtype=np.float32) * 4 / 255).reshape(1, 8, 8)


async def test_a_stream_is_the_same_however_it_is_cut_and_in_whatever_order_it_is_read() -> None:
    backend = FakeBackend()
    whole = await backend.count_votes(IMAGE, sigma=0.5, seed=2**64 - 1, first=0, count=320)
    pieces = [
        await backend.count_votes(IMAGE, sigma=0.5, seed=2**64 - 1, first=first, count=count)
        for first, count in ((160, 160), (0, 32), (32, 128))
    ]
    np.testing.assert_array_equal(sum(pieces), whole)
    assert whole.sum() == 320
    assert whole.dtype == np.int64


@pytest.mark.parametrize("chunk", [1, 6, 32])
async def test_every_chunk_can_be_read_alone(chunk: int) -> None:
    backend = FakeBackend(dataclasses.replace(FAKE_INFO, chunk=chunk, grain=chunk))
    whole = await backend.chunk_votes(IMAGE, sigma=0.5, seed=3, first=chunk, count=40 * chunk)
    alone = [
        await backend.count_votes(IMAGE, sigma=0.5, seed=3, first=number * chunk, count=chunk)
        for number in range(1, 41)
    ]
    np.testing.assert_array_equal(whole, alone)
    assert (whole.sum(axis=1) == chunk).all()
    assert len({tuple(votes) for votes in alone}) > 1


async def test_seed_sigma_image_and_place_each_change_the_votes() -> None:
    backend = FakeBackend()
    other_image = IMAGE[:, ::-1].copy()
    votes = [
        await backend.count_votes(image, sigma=sigma, seed=seed, first=first, count=3200)
        for image, sigma, seed, first in (
            (IMAGE, 0.5, 1, 0),
            (IMAGE, 0.5, 2, 0),
            (IMAGE, 1.0, 1, 0),
            (IMAGE, 0.5, 1, 3200),
            (other_image, 0.5, 1, 0),
        )
    ]
    assert len({tuple(vote) for vote in votes}) == len(votes)


async def test_votes_follow_the_probabilities_that_it_documents() -> None:
    backend = FakeBackend()
    votes = await backend.count_votes(IMAGE, sigma=0.25, seed=7, first=0, count=32_000)
    # Four standard errors of a share of 32,000 draws: 0.011.
    np.testing.assert_allclose(votes / 32_000, backend.probabilities(IMAGE, 0.25), atol=0.0112)


@pytest.mark.parametrize(
    "change",
    [
        {"first": 1},
        {"first": -32},
        {"count": 0},
        {"count": 33},
        {"sigma": 0.3},
        {"seed": -1},
        {"seed": 2**64},
        {"image": IMAGE.astype(np.float64)},
        {"image": IMAGE[:, :7]},
        {"image": IMAGE + 1},
        {"image": np.full_like(IMAGE, np.nan)},
    ],
    ids=lambda change: ",".join(change),
)
async def test_illegal_arguments_are_refused(change: dict[str, object]) -> None:
    arguments: dict[str, object] = {"image": IMAGE, "sigma": 0.5, "seed": 1, "first": 0, "count": 32, **change}
    image = arguments.pop("image")
    with pytest.raises(ValueError, match="expected"):
        await FakeBackend().count_votes(image, **arguments)  # type: ignore[arg-type]


async def test_it_fails_while_it_is_told_to() -> None:
    backend = FakeBackend()
    backend.failing = True
    with pytest.raises(BackendUnavailable):
        await backend.classify(IMAGE)
    backend.failing = False
    assert 0 <= await backend.classify(IMAGE) < 10


async def test_it_takes_another_bundles_facts() -> None:
    info = dataclasses.replace(FAKE_INFO, class_names=("cat", "dog"), chunk=16)
    votes = await FakeBackend(info).count_votes(IMAGE, sigma=0.5, seed=0, first=16, count=16)
    assert votes.shape == (2,)


def test_the_fake_is_opened_by_name_with_its_delay() -> None:
    backend = open_backend(load_settings(backend="fake", fake_delay_seconds=0.5))
    assert isinstance(backend, FakeBackend)
    assert backend.delay_seconds == 0.5


@pytest.mark.parametrize(
    "url", ["", "localhost", "localhost:", ":8001", "localhost:0", "http://localhost:8001", "a:1,,b:2"]
)
def test_an_address_that_is_none_names_the_setting(url: str) -> None:
    with pytest.raises(SettingsError, match="CERTIFY_TRITON_URL"):
        open_backend(load_settings(backend="triton", triton_url=url))


SPLITTING = dataclasses.replace(FAKE_INFO, noise=("splitting",) * 3, norm="l1")


async def test_numbered_samples_are_the_same_under_every_seed_and_in_every_cut() -> None:
    backend = FakeBackend(SPLITTING)
    whole = SPLITTING.whole(0.25)
    assert whole == offsets(0.25) == 221  # six chunks of 32 and 29 samples
    votes = [await backend.count_votes(IMAGE, sigma=0.25, seed=seed, first=0, count=whole) for seed in (0, 9)]
    parts = [
        await backend.count_votes(IMAGE, sigma=0.25, seed=0, first=low, count=n) for low, n in ((0, 192), (192, 29))
    ]
    assert votes[0].tolist() == votes[1].tolist() == sum(parts).tolist()
    assert votes[0].sum() == whole


@pytest.mark.parametrize(("first", "count"), [(0, 222), (192, 32), (1, 220), (192, 28), (224, 32), (0, 0), (221, 0)])
async def test_a_part_of_numbered_samples_is_whole_chunks_or_ends_with_the_last(first: int, count: int) -> None:
    backend = FakeBackend(SPLITTING)
    with pytest.raises(ValueError, match="count|first"):
        await backend.count_votes(IMAGE, sigma=0.25, seed=0, first=first, count=count)


def test_drawn_noise_has_no_last_sample() -> None:
    assert FAKE_INFO.whole(0.25) is None
    assert FAKE_INFO.noises == ("gaussian",) * 3
