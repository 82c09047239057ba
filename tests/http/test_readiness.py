from __future__ import annotations

import asyncio

import pytest

from certify.service.backends.fake import FakeBackend
from certify.service.errors import BackendUnavailable
from certify.service.http.readiness import Readiness
from tests import pictures
from tests.servers import in_process

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_one_answer_counts_until_it_is_too_old() -> None:
    backend, clock = FakeBackend(), Clock()
    readiness = Readiness(backend, fresh_seconds=30, clock=clock)
    for now, calls in ((0.0, 1), (30.0, 1), (30.1, 2), (60.0, 2)):
        clock.now = now
        await readiness.check()
        assert backend.calls == calls


async def test_an_answered_request_spares_the_probe() -> None:
    backend = FakeBackend()
    readiness = Readiness(backend, fresh_seconds=30, clock=Clock())
    readiness.answered()
    await readiness.check()
    assert backend.calls == 0


async def test_a_failed_request_is_believed_until_the_backend_answers_again() -> None:
    backend = FakeBackend()
    readiness = Readiness(backend, fresh_seconds=30, clock=Clock())
    await readiness.check()
    readiness.failed()
    backend.failing = True
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            await readiness.check()
    backend.failing = False
    await readiness.check()
    assert backend.calls == 4


async def test_many_questions_at_once_are_one_probe() -> None:
    backend = FakeBackend(delay_seconds=0.01)
    readiness = Readiness(backend, fresh_seconds=30)
    await asyncio.gather(*(readiness.check() for _ in range(10)))
    assert backend.calls == 1


async def test_a_caller_that_gives_up_does_not_stop_the_probe_for_the_next() -> None:
    backend = FakeBackend(delay_seconds=0.05)
    readiness = Readiness(backend, fresh_seconds=30)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await readiness.check()
    await readiness.check()
    assert backend.calls == 1


async def test_a_backend_that_takes_its_time_is_not_ready_until_its_answer_is_there() -> None:
    backend = FakeBackend(delay_seconds=0.05)
    readiness = Readiness(backend, fresh_seconds=30, answer_seconds=0.001)
    with pytest.raises(BackendUnavailable, match=r"within 0\.001 seconds"):
        await readiness.check()
    while backend.running:
        await asyncio.sleep(0.01)
    await readiness.check()
    assert backend.calls == 1


async def test_closing_stops_a_probe_under_way() -> None:
    backend = FakeBackend(delay_seconds=3600)
    readiness = Readiness(backend, fresh_seconds=30)
    waiting = asyncio.create_task(readiness.check())
    while not backend.running:
        await asyncio.sleep(0)
    await readiness.close()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert backend.running == 0


async def test_the_metric_says_whether_the_backend_answered_when_it_was_last_asked() -> None:
    async with in_process() as service:
        assert await service.metric("certify_ready") == 1
        service.backend.failing = True
        calls = service.backend.calls
        assert await service.metric("certify_ready") == 1 and service.backend.calls == calls  # a scrape asks nobody
        assert (await service.client.get("/readyz")).status_code == 503
        assert await service.metric("certify_ready") == 0
        service.backend.failing = False
        assert (await service.client.get("/readyz")).status_code == 200
        assert await service.metric("certify_ready") == 1
        service.backend.failing = True
        assert (await service.client.post("/certify", files={"image": pictures.png()})).status_code == 503
        assert await service.metric("certify_ready") == 0
