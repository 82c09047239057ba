from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from certify.service.answering.driver import CallLimits, Run, drive, guard
from certify.service.answering.pace import pace_of
from certify.service.backends.base import Backend
from certify.service.backends.fake import FAKE_INFO, FakeBackend
from certify.service.core import Certifier
from certify.service.errors import BackendUnavailable, DeadlineExceeded
from certify.service.settings import load_settings

pytestmark = pytest.mark.anyio

IMAGE = (np.arange(64, dtype=np.float32) / 255).reshape(1, 8, 8)
LIMITS = CallLimits(samples=2048, seconds=60.0)


def certifier(samples: int = 5000, radius: float | None = None) -> Certifier:
    return Certifier(FAKE_INFO.cascade, 10, samples=samples, chunk=32, radius=radius)


def stream_seed(purpose: str, sigma: float) -> int:
    """The same in every process, which hash() of text is not."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {sigma}".encode()).digest()[:8], "big")


async def run(
    backend: Backend,
    *,
    limits: CallLimits = LIMITS,
    seconds: float | None = None,
    machine: Certifier | None = None,
    seed_of: Callable[[str, float], int] = stream_seed,
) -> Run:
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    return await drive(
        backend,
        machine or certifier(),
        IMAGE,
        sigmas=FAKE_INFO.sigmas,
        seed_of=seed_of,
        limits=limits,
        deadline=deadline,
    )


class Recording(FakeBackend):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[float, int, int, int]] = []

    async def count_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        self.asked.append((sigma, seed, first, count))
        return await super().count_votes(image, sigma=sigma, seed=seed, first=first, count=count)


async def test_it_runs_to_the_end_within_the_budget() -> None:
    backend = Recording()
    done = await run(backend)
    assert done.result.complete
    assert not done.timed_out
    assert done.uncertified_class == int(np.argmax(backend.probabilities(IMAGE, 0.0)))
    assert done.result.samples_used == sum(count for *_, count in backend.asked) <= 5000


async def test_no_call_asks_for_more_than_the_limit_and_no_sample_is_asked_for_twice() -> None:
    backend = Recording()
    await run(backend, limits=CallLimits(samples=100, seconds=60))
    assert max(count for *_, count in backend.asked) == 96  # 100 in whole chunks
    drawn = [
        (sigma, seed, index) for sigma, seed, first, count in backend.asked for index in range(first, first + count)
    ]
    assert len(drawn) == len(set(drawn))


async def test_the_answer_does_not_depend_on_how_looks_are_cut_into_calls() -> None:
    whole = await run(FakeBackend())
    cut = await run(FakeBackend(), limits=CallLimits(samples=1, seconds=60))
    assert whole.result == cut.result


async def test_pilot_and_estimation_are_different_streams_at_every_sigma() -> None:
    backend = Recording()
    names: dict[int, tuple[str, float]] = {}

    def seed_of(purpose: str, sigma: float) -> int:
        names[len(names)] = (purpose, sigma)
        return len(names) - 1

    await run(backend, seed_of=seed_of)
    assert all(names[seed][1] == sigma for sigma, seed, _, _ in backend.asked)
    assert {names[seed][0] for _, seed, _, _ in backend.asked} == {"pilot", "estimation"}


async def test_a_deadline_before_any_look_leaves_nothing_to_say() -> None:
    with pytest.raises(DeadlineExceeded):
        await run(FakeBackend(delay_seconds=3600), seconds=0.01)
    with pytest.raises(DeadlineExceeded):
        await run(FakeBackend(), seconds=-1.0)


class SlowAfter(FakeBackend):
    """Never answers again after so many calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self._left = calls

    async def _work(self) -> None:
        self._left -= 1
        if self._left < 0:
            self.delay_seconds = 3600
        await super()._work()


async def test_a_deadline_in_the_middle_gives_what_has_been_proved() -> None:
    full = certifier()
    complete = await run(FakeBackend(), machine=full)
    assert complete.result.label is not None
    outcomes = set()
    for calls in range(1, 30):
        try:
            done = await run(SlowAfter(calls), seconds=0.05)
        except DeadlineExceeded:
            outcomes.add("nothing")
            continue
        assert done.timed_out
        assert not done.result.complete
        assert done.result.has_data
        assert done.result.samples_used <= complete.result.samples_used
        outcomes.add("abstained" if done.result.label is None else "certified")
        if done.result.label is not None:
            break
    assert {"nothing", "certified"} <= outcomes


async def test_cancelling_it_cancels_the_call_under_way() -> None:
    backend = FakeBackend(delay_seconds=3600)
    task = asyncio.create_task(run(backend))
    while not backend.running:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.running == 0


async def test_a_stalled_call_is_an_unavailable_backend_even_when_a_deadline_is_set() -> None:
    for seconds in (None, 3600.0):
        with pytest.raises(BackendUnavailable, match="did not answer within 0.01 seconds"):
            await run(FakeBackend(delay_seconds=3600), limits=CallLimits(samples=32, seconds=0.01), seconds=seconds)


@pytest.mark.parametrize("stalls_at", [1, 4])
async def test_each_call_has_its_own_time_though_one_timer_serves_all(stalls_at: int) -> None:
    class Stalling(FakeBackend):
        asked = 0

        async def count_votes(self, *args: Any, **kwargs: Any) -> NDArray[np.int64]:
            self.asked += 1
            self.delay_seconds = 3600 if self.asked == stalls_at else 0
            return await super().count_votes(*args, **kwargs)

    backend = Stalling()
    task = asyncio.current_task()
    with pytest.raises(BackendUnavailable, match="did not answer within 1 seconds"):
        await run(backend, limits=CallLimits(samples=2048, seconds=1.0))
    assert backend.asked == stalls_at and backend.running == 0
    assert task is not None and not task.cancelling()


async def test_a_failure_of_any_kind_is_an_unavailable_backend() -> None:
    async def failing(error: Exception) -> None:
        raise error

    for error in (
        RuntimeError("CUDA"),
        ConnectionResetError(),
        TimeoutError(),
        ValueError("x"),
        BackendUnavailable("x"),
    ):
        with pytest.raises(BackendUnavailable):
            await guard(failing(error), 60)


@pytest.mark.parametrize(
    "votes",
    [np.zeros(10, np.int64), np.full(10, 32), np.zeros(9, np.int64), np.array([-32, 64] + [0] * 8)],
    ids=["too few", "too many", "too few classes", "negative"],
)
async def test_impossible_votes_are_an_unavailable_backend(votes: NDArray[np.int64]) -> None:
    class Confused(FakeBackend):
        async def count_votes(self, *args: object, **kwargs: object) -> NDArray[np.int64]:
            return votes

    with pytest.raises(BackendUnavailable, match="impossible votes"):
        await run(Confused(), limits=CallLimits(samples=32, seconds=60))


def test_the_limits_are_the_settings() -> None:
    assert CallLimits.of(load_settings(call_samples=64, call_seconds=3)) == CallLimits(samples=64, seconds=3)


def test_offline_there_is_no_limit_of_time_but_the_one_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CallLimits.of(load_settings(), offline=True).seconds is None
    assert CallLimits.of(load_settings(call_seconds=3), offline=True).seconds == 3
    monkeypatch.setenv("CERTIFY_CALL_SECONDS", "4")
    assert CallLimits.of(load_settings(), offline=True).seconds == 4


async def test_a_backend_that_is_slow_as_a_rule_is_waited_for() -> None:
    impatient = CallLimits(samples=2048, seconds=1e-9)
    known, unknown = FakeBackend(delay_seconds=0.001), FakeBackend(delay_seconds=0.001)
    for _ in range(32):
        pace_of(known).took(FAKE_INFO.chunk, 3600.0)
    assert (await run(known, limits=impatient)).result == (await run(FakeBackend())).result
    assert known.calls < 16  # which leaves the median where it was
    with pytest.raises(BackendUnavailable, match="did not answer within 1e-09 seconds"):
        await run(unknown, limits=impatient)
    assert (await run(unknown, limits=CallLimits(samples=2048, seconds=None))).result.complete


def test_a_call_may_take_four_times_what_its_size_took_lately_and_never_less_than_was_set() -> None:
    backend, limits = FakeBackend(), CallLimits(samples=2048, seconds=60.0)
    assert limits.allowed(backend, 2048) == 60
    for _ in range(5):
        pace_of(backend).took(2048, 50.0)
    pace_of(backend).took(32, 3000.0)  # one that waited long moves nothing
    assert limits.allowed(backend, 2048) == 200
    assert limits.allowed(backend, 32) == 60
    for _ in range(32):
        pace_of(backend).took(2048, 1.0)  # what is long ago is forgotten
    assert limits.allowed(backend, 2048) == 60
    assert limits.allowed(FakeBackend(), 2048) == 60  # each backend has its own
