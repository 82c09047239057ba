"""POST /certify: what a request that waits, or one that was refused, still holds of its body."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from certify.service.backends.fake import FakeBackend
from tests import pictures
from tests.servers import in_process

pytestmark = pytest.mark.anyio


@pytest.mark.slow  # it is large enough to be decoded in a process of its own
async def test_a_request_that_waits_for_its_turn_keeps_no_file() -> None:
    noise = pictures.encoded(pictures.gray(size=(1500, 1500)))
    assert len(noise) > 2**21
    async with in_process(FakeBackend(delay_seconds=3600), max_running=1) as service:
        tracemalloc.start()
        try:
            files = {"image": ("a.png", noise)}
            task = asyncio.create_task(service.client.post("/certify", files=files, data={"resize": "true"}))
            while service.backend.running == 0:
                await asyncio.sleep(0.001)
            snapshot = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
        held = [trace for trace in snapshot.traces if "/certify/service/" in trace.traceback[0].filename]
        assert sum(trace.size for trace in held) < 2**20
        service.gateway.admission.abort()
        assert (await task).json()["code"] == "draining"


async def test_of_a_body_that_was_refused_nothing_is_kept() -> None:
    body = b'{"image":"' + b"A" * 2**22 + b'!"}'
    async with in_process() as service:
        headers = {"Content-Type": "application/json"}
        await service.client.post("/certify", content=body, headers=headers)
        gc.disable()
        tracemalloc.start()
        try:
            refused = await service.client.post("/certify", content=body, headers=headers)
            assert refused.json()["code"] == "image_undecodable"
            traces = tracemalloc.take_snapshot().traces
        finally:
            tracemalloc.stop()
            gc.enable()
    assert sum(trace.size for trace in traces if "/certify/service/" in trace.traceback[0].filename) < 2**19


async def test_of_a_body_that_was_cut_off_nothing_is_kept_while_its_refusal_is_held_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held_back, go_on = asyncio.Event(), asyncio.Event()

    async def hold_back(prompt: int) -> None:
        held_back.set()
        await go_on.wait()

    async def body() -> AsyncIterator[bytes]:
        yield bytes(2**20)
        await go_on.wait()

    async with in_process(max_arriving_bytes=2**19) as service:
        monkeypatch.setattr(service.gateway.admission, "hold_back", hold_back)
        gc.disable()
        tracemalloc.start()
        try:
            asked = asyncio.create_task(service.client.post("/certify", content=body()))
            await held_back.wait()
            traces = tracemalloc.take_snapshot().traces
        finally:
            tracemalloc.stop()
            gc.enable()
        go_on.set()
        assert (await asked).json()["code"] == "queue_full"
    assert all(trace.size < 2**20 for trace in traces)
