"""Draws ahead: the answer is the same, nobody pays for them, and a loaded backend draws none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from certify.service.answering.ahead import Drawn, sharing
from certify.service.answering.driver import CallLimits, Run, drive
from certify.service.backends.base import AheadDraw
from certify.service.backends.fake import FAKE_INFO, FakeBackend
from certify.service.core import Certifier
from certify.service.errors import BackendUnavailable
from tests.answering.test_driver import IMAGE, LIMITS, stream_seed

pytestmark = pytest.mark.anyio


def backend_of(hands: int) -> FakeBackend:
    backend = FakeBackend()
    backend.hands = hands
    return backend


async def run(backend: FakeBackend, *, radius: float | None = None, limits: CallLimits = LIMITS) -> tuple[Run, int]:
    """And how many samples its turns were for."""
    turns = []

    @contextlib.asynccontextmanager
    async def turn(samples: int) -> AsyncIterator[None]:
        turns.append(samples)
        yield

    certifier = Certifier(FAKE_INFO.cascade, 10, samples=5_000, chunk=32, radius=radius)
    done = await drive(
        backend, certifier, IMAGE, sigmas=FAKE_INFO.sigmas, seed_of=stream_seed, limits=limits, deadline=None, turn=turn
    )
    return done, sum(turns)


@pytest.mark.parametrize("radius", [None, 0.1, 0.25])
@pytest.mark.parametrize("most", [96, 2048])  # samples of a call
async def test_an_answer_is_the_same_whatever_was_drawn_ahead(radius: float | None, most: int) -> None:
    limits = CallLimits(samples=most, seconds=60.0)
    alone, _ = await run(backend_of(1), radius=radius, limits=limits)
    assert alone.ahead == Drawn()
    for hands in (2, 4, 32):
        done, turns = await run(backend_of(hands), radius=radius, limits=limits)
        assert done.result == alone.result and done.leading == alone.leading
        assert done.ahead.used > 0
        assert turns == done.result.samples_used  # what a budget pays for


async def test_what_is_waited_for_is_asked_for_first() -> None:
    class Noting(FakeBackend):
        def __init__(self) -> None:
            super().__init__()
            self.hands = 4
            self.asked: list[str] = []
            self.ahead: set[tuple[object, ...]] = set()

        def draw_ahead(self, image: NDArray[np.float32], **stream: Any) -> AheadDraw:
            self.asked.append("ahead")
            self.ahead.add(tuple(stream.values()))
            return super().draw_ahead(image, **stream)

        async def count_votes(self, image: NDArray[np.float32], **stream: Any) -> NDArray[np.int64]:
            if tuple(stream.values()) not in self.ahead:
                self.asked.append("look")
            return await super().count_votes(image, **stream)

    backend = Noting()
    certifier = Certifier(FAKE_INFO.cascade, 10, samples=5_000, chunk=32)

    @contextlib.asynccontextmanager
    async def turn(samples: int) -> AsyncIterator[None]:
        backend.asked.append("turn")
        yield

    await drive(
        backend, certifier, IMAGE, sigmas=FAKE_INFO.sigmas, seed_of=stream_seed, limits=LIMITS, deadline=None, turn=turn
    )
    turns = " ".join(backend.asked).split("turn")
    assert sum("look" in each and "ahead" in each for each in turns) > 2
    assert not any("ahead look" in each for each in turns)


async def test_idle_hands_begin_with_the_first_look_while_the_plain_answer_comes() -> None:
    class Noting(FakeBackend):
        def __init__(self, hands: int) -> None:
            super().__init__()
            self.hands = hands
            self.asked: list[str] = []

        def draw_ahead(self, image: NDArray[np.float32], **stream: Any) -> AheadDraw:
            self.asked.append("ahead")
            return super().draw_ahead(image, **stream)

        async def classify(self, image: NDArray[np.float32]) -> int:
            self.asked.append("plain")
            return await super().classify(image)

    for hands, first in ((1, "plain"), (2, "ahead")):
        backend = Noting(hands)
        await run(backend)
        assert backend.asked[0] == first
    backend, certifier = Noting(2), Certifier(FAKE_INFO.cascade, 10, samples=5_000, chunk=32)
    await drive(
        backend, certifier, IMAGE, sigmas=FAKE_INFO.sigmas, seed_of=stream_seed, limits=LIMITS, deadline=None,
        by_chunk=True,
    )  # fmt: skip
    assert backend.asked == ["plain"]  # what comes ahead comes without its chunks


async def test_what_was_drawn_in_vain_is_counted() -> None:
    done, _ = await run(backend_of(32), radius=0.1)
    assert done.ahead.dropped > 0


async def test_as_many_requests_as_hands_draw_nothing_ahead() -> None:
    backend = backend_of(2)
    with sharing(backend):  # another request, wherever it waits
        done, _ = await run(backend)
    assert done.ahead == Drawn()
    again, _ = await run(backend)
    assert again.ahead.used > 0 and again.result == done.result


async def test_a_failure_of_what_was_drawn_ahead_is_the_requests_own() -> None:
    class Failing(FakeBackend):
        async def _work(self) -> None:
            await super()._work()
            self.failing = self.calls > 3

    backend = Failing()
    backend.hands = 4
    with pytest.raises(BackendUnavailable, match="told to fail"):
        await run(backend)


async def test_a_request_that_is_cancelled_leaves_nothing_behind() -> None:
    backend = backend_of(8)
    backend.delay_seconds = 0.01
    task = asyncio.create_task(run(backend))
    while backend.running < 3:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while backend.running:
        await asyncio.sleep(0)
    calls = backend.calls
    await asyncio.sleep(0.02)
    assert backend.calls == calls
