from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from certify.service.errors import Draining, QueueFull, RequestError
from certify.service.http.arrivals import Arrivals

pytestmark = pytest.mark.anyio


class Sender:
    """A body that comes piece by piece, when the test says so."""

    def __init__(self, arrivals: Arrivals, declared: str | None = None) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.read = asyncio.create_task(arrivals.read(self._stream(), declared=declared))

    async def _stream(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            yield piece

    async def send(self, piece: bytes | None) -> None:
        """None: that was all."""
        self._pieces.put_nowait(piece)
        for _ in range(5):
            await asyncio.sleep(0)


def arrivals(max_body_bytes: int = 100, max_bytes: int = 100, seconds: float = 3600) -> Arrivals:
    return Arrivals(max_body_bytes=max_body_bytes, max_bytes=max_bytes, seconds=seconds)


async def test_a_silent_body_holds_nothing_whatever_it_declares() -> None:
    house = arrivals()
    silent = [Sender(house, declared="100") for _ in range(50)]
    await asyncio.sleep(0)
    sender = Sender(house)
    await sender.send(b"x" * 100)
    await sender.send(None)
    assert await sender.read == b"x" * 100
    assert not any(each.read.done() for each in silent)
    for each in silent:
        each.read.cancel()
    await asyncio.gather(*(each.read for each in silent), return_exceptions=True)


async def test_beyond_the_bytes_of_all_the_oldest_bodies_are_cut_off() -> None:
    house = arrivals()
    first, second, third = [Sender(house) for _ in range(3)]
    await first.send(b"x" * 40)
    await second.send(b"x" * 50)
    await third.send(b"x" * 20)
    with pytest.raises(QueueFull) as caught:
        await first.read
    assert caught.value.retry_after_seconds == 1
    # Its bytes are free again: there is room for 30.
    await second.send(b"x" * 30)
    await second.send(None)
    assert await second.read == b"x" * 80
    await third.send(b"x" * 80)
    await third.send(None)
    assert await third.read == b"x" * 100


async def test_one_body_may_be_as_large_as_all_together_but_no_larger() -> None:
    sender = Sender(arrivals(max_body_bytes=1000))
    await sender.send(b"x" * 101)
    with pytest.raises(QueueFull):
        await sender.read


async def test_a_body_has_its_time() -> None:
    sender = Sender(arrivals(seconds=0.01))
    with pytest.raises(RequestError, match=r"expected all of it within 0\.01 s") as caught:
        await sender.read
    assert caught.value.code == "malformed_body"


async def test_stop_tells_every_body_that_has_not_come() -> None:
    house = arrivals()
    senders = [Sender(house), Sender(house)]
    await senders[0].send(b"x")
    house.stop()
    for sender in senders:
        with pytest.raises(Draining):
            await sender.read


async def test_of_a_body_that_was_cut_off_nothing_is_kept() -> None:
    size = 4 * 2**20
    house = arrivals(max_body_bytes=size, max_bytes=size // 2)
    gc.disable()
    tracemalloc.start()
    try:
        sender = Sender(house)
        for _ in range(size // 2**14):
            await sender.send(bytes(2**14))
        with pytest.raises(QueueFull):
            await sender.read
        assert kept() < size // 8
    finally:
        tracemalloc.stop()
        gc.enable()


def kept() -> int:
    """Bytes that the service's own lines have allocated and that are still there."""
    traces = tracemalloc.take_snapshot().traces
    return sum(trace.size for trace in traces if "/service/http/" in trace.traceback[0].filename)


async def test_large_bodies_come_on_only_when_those_before_are_parsed_and_small_ones_pass() -> None:
    megabyte = 2**20
    house = arrivals(max_body_bytes=64 * megabyte, max_bytes=64 * megabyte)
    with house.parsing(10 * megabyte):
        with house.parsing(10 * megabyte):
            small, large = Sender(house), Sender(house)
            await small.send(b"x" * 100)
            await small.send(None)
            assert await small.read == b"x" * 100
            for _ in range(3):
                await large.send(b"x" * megabyte)
            await large.send(None)
            assert house.came == megabyte + 100 and not large.read.done()
        assert len(await large.read) == 3 * megabyte
