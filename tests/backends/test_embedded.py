"""What the embedded backend does beside the contract: it ends a long call when it is closed, and lets others in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

pytest.importorskip("torch", reason="the embedded backend needs torch (pip install 'certify[torch]')")

from certify.service.backends.embedded import EmbeddedBackend
from certify.service.errors import BackendUnavailable

IMAGE = np.full((1, 8, 8), 0.5, dtype=np.float32)
HALF_AN_HOUR = 32_000_000  # samples


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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
