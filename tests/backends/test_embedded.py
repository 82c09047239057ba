"""What the embedded backend does beside the contract: it ends a long call when it is closed, and lets others in."""

from __future__ import annotations

import asyncio
import io
import threading
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("torch", reason="the embedded backend needs torch (pip install 'certify[torch]')")

from certify.service.answering.certify import answer, prepare, run
from certify.service.answering.schemas import CertifyFields
from certify.service.answering.seeds import key_from_number
from certify.service.backends import workers as pool
from certify.service.backends.embedded import EmbeddedBackend
from certify.service.errors import BackendUnavailable
from certify.service.settings import load_settings

IMAGE = np.full((1, 8, 8), 0.2, dtype=np.float32)
HALF_AN_HOUR = 32_000_000  # samples


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def picture_file(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
async def backend() -> AsyncIterator[EmbeddedBackend]:
    opened = EmbeddedBackend("digits", workers=2)
    await opened.open()
    yield opened
    await opened.close()


@pytest.mark.anyio
async def test_closing_ends_a_call_that_would_go_on_for_half_an_hour(backend: EmbeddedBackend) -> None:
    long = asyncio.create_task(backend.count_votes(IMAGE, sigma=0.25, seed=1, first=0, count=HALF_AN_HOUR))
    await asyncio.sleep(0.5)  # until its threads go from slice to slice by themselves
    await backend.close()
    with pytest.raises(BackendUnavailable, match="closed"):
        await long


@pytest.mark.anyio
async def test_a_short_call_is_answered_beside_one_that_would_go_on_for_half_an_hour(backend: EmbeddedBackend) -> None:
    long = asyncio.create_task(backend.count_votes(IMAGE, sigma=0.25, seed=1, first=0, count=HALF_AN_HOUR))
    alone = await backend.count_votes(IMAGE, sigma=0.5, seed=2, first=0, count=640)
    assert not long.done()
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    again = await backend.count_votes(IMAGE, sigma=0.5, seed=2, first=0, count=640)
    assert alone.tolist() == again.tolist()


@pytest.mark.anyio
async def test_one_slice_after_another_runs_beside_one_slice_of_a_long_call(
    backend: EmbeddedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "KEPT_SECONDS", 60.0)  # however slow this machine is
    pipeline, long_image = backend._pipeline, IMAGE * 2
    assert pipeline is not None
    votes, running, beside, lock = pipeline.votes, Counter[bool](), list[int](), threading.Lock()

    def counted(image: NDArray[np.float32], **stream: Any) -> NDArray[np.int64]:
        long = bool(image[0, 0, 0] > 0.3)
        with lock:
            running[long] += 1
            if not long:
                beside.append(running[True])
        try:
            return votes(image, **stream)
        finally:
            with lock:
                running[long] -= 1

    monkeypatch.setattr(pipeline, "votes", counted)
    long = asyncio.create_task(backend.count_votes(long_image, sigma=0.25, seed=1, first=0, count=HALF_AN_HOUR))
    while running[True] < 2 and not long.done():
        await asyncio.sleep(0.01)
    while not beside or beside[-1] > 1:
        await backend.count_votes(IMAGE, sigma=0.5, seed=2, first=0, count=64)
    beside.clear()
    for _ in range(20):
        await backend.count_votes(IMAGE, sigma=0.5, seed=2, first=0, count=64)
    assert len(beside) == 20 and max(beside) == 1
    long.cancel()


@pytest.mark.anyio
async def test_draws_ahead_are_those_that_would_be_asked_for(backend: EmbeddedBackend) -> None:
    where = {"sigma": 0.5, "seed": 2, "first": 64, "count": 64}
    asked = await backend.count_votes(IMAGE, **where)
    ahead = [backend.draw_ahead(IMAGE, **where) for _ in range(8)]
    assert [(await draw.votes()).tolist() for draw in ahead] == [asked.tolist()] * 8
    assert ahead[0].drop()  # too late
    assert not all([backend.draw_ahead(IMAGE, **where).drop() for _ in range(100)])


@pytest.mark.slow
@pytest.mark.anyio
async def test_an_answer_is_the_same_alone_or_in_a_crowd_with_one_worker_or_four() -> None:
    settings, key = load_settings(), key_from_number(1)
    requests = [{"samples": 1_500}, {"samples": 1_500, "radius": 0.2}, {"samples": 1_000, "sigmas": [0.25, 0.5]}]
    image = picture_file(np.round(np.linspace(0, 255, 64)).reshape(8, 8).astype(np.uint8))
    answers: list[list[dict[str, object]]] = []
    drawn = 0
    for workers in (1, 4):
        backend = EmbeddedBackend("digits", workers=workers)
        await backend.open()

        async def ask(fields: dict[str, object], backend: EmbeddedBackend = backend) -> dict[str, object]:
            nonlocal drawn
            job = await asyncio.to_thread(
                prepare, image, CertifyFields(**fields), backend.info(), settings, arrival=0.0, offline=True
            )
            done = await run(job, backend, key)
            drawn += done.ahead.used
            return answer(job, done, key, request_id="").model_dump(exclude={"timing"})

        try:
            answers.append([await ask(fields) for fields in requests])
            answers.append(await asyncio.gather(*map(ask, requests)))
        finally:
            await backend.close()
    assert drawn > 0
    assert answers[0] == answers[1] == answers[2] == answers[3]
