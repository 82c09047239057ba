"""service.http.decoding: a picture that is slow, or that brings its decoder down, costs its own request only."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certify.service.answering.image_headers import MAX_SCANS, Header, read_header
from certify.service.answering.images import decode_pixels
from certify.service.errors import QueueFull, RequestError
from certify.service.http.decoding import MOST_HEAVY, PROCESSES, Decoders
from tests import pictures

SHAPE = (3, 8, 8)
LARGE = read_header(pictures.png(size=(600, 600)))  # too large to be decoded in a thread
MAX_PIXELS = 64 * 2**20
CASES = Path(__file__).parents[1] / "cases" / "images"

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # each starts processes


@asynccontextmanager
async def decoders(seconds: float = 60.0) -> AsyncIterator[Decoders]:
    made = Decoders(max_pixels=MAX_PIXELS, seconds=60.0)
    # Begin the processes, under no limit of time: they import Pillow first.
    await asyncio.gather(*(made.decode(LARGE, SHAPE, resize=True) for _ in range(PROCESSES)))
    made._seconds = seconds
    try:
        yield made
    finally:
        await made.close()


@functools.cache
def slow_picture() -> Header:
    """As many scans as are let through, over 64 million pixels: seconds of work for any processor, in a small file."""
    good = pictures.encoded(pictures.gray(size=(8, 8)).resize((8192, 8192)), "JPEG", progressive=True, quality=5)
    last = good.rindex(b"\xff\xda")
    scan = good[last:-2]
    return read_header(good[:last] + scan * (MAX_SCANS - good.count(b"\xff\xda") + 1) + b"\xff\xd9")


def processes() -> set[int]:
    """Of this process's children those that decode."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = {int(pid) for path in children for pid in path.read_text().split()}
    return {pid for pid in pids if b"process_child" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def spent(pids: set[int]) -> int:
    """Hundredths of a second of processor time."""
    return sum(int(Path(f"/proc/{pid}/stat").read_text().split()[13]) for pid in pids)


async def until_begun(before: set[int], idle: int) -> None:
    """Until some decoder has worked. idle: what they had spent before. The test's own limit is the only clock."""
    while spent(before) < idle + 20:
        await asyncio.sleep(0.02)


async def test_a_process_decodes_as_this_one_does() -> None:
    async with decoders() as made:
        there = await made.decode(LARGE, SHAPE, resize=True)
    here = decode_pixels(LARGE, SHAPE, resize=True, max_pixels=MAX_PIXELS)
    assert there.sha256 == here.sha256 and (there.tensor == here.tensor).all()


async def test_a_refusal_comes_through_whole() -> None:
    async with decoders() as made:
        with pytest.raises(RequestError) as caught:
            await made.decode(LARGE, SHAPE, resize=False)
    assert caught.value.code == "image_wrong_size" and caught.value.extra["expected_width"] == 8


async def test_a_picture_that_takes_too_long_is_refused_and_its_process_ended() -> None:
    async with decoders(seconds=0.5) as made:
        before = processes()
        assert len(before) == PROCESSES
        with pytest.raises(RequestError, match=r"within 0\.5 s"):
            await made.decode(slow_picture(), SHAPE, resize=True)
        assert len(before & processes()) == PROCESSES - 1
        assert (await made.decode(LARGE, SHAPE, resize=True)).tensor.shape == SHAPE


async def test_a_client_that_leaves_ends_its_decoding() -> None:
    async with decoders() as made:
        before = processes()
        idle = spent(before)
        task = asyncio.create_task(made.decode(slow_picture(), SHAPE, resize=True))
        await until_begun(before, idle)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(before & processes()) == PROCESSES - 1


async def test_a_picture_that_brings_its_decoders_down_is_refused_and_no_other() -> None:
    """It is tried twice: a process that died before, of something else, must cost nobody an answer."""
    async with decoders() as made:
        task = asyncio.create_task(made.decode(slow_picture(), SHAPE, resize=True))
        while not task.done():
            for pid in processes():
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.01)
        with pytest.raises(RequestError, match="died"):
            await task
        assert (await made.decode(LARGE, SHAPE, resize=True)).tensor.shape == SHAPE


async def test_clients_that_leave_while_a_process_starts_leave_none_behind() -> None:
    made = Decoders(max_pixels=MAX_PIXELS, seconds=60.0)
    before = processes()
    for turns in range(12):
        task = asyncio.create_task(made.decode(LARGE, SHAPE, resize=True))
        for _ in range(turns):
            await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.wait([task])
    assert (await made.decode(LARGE, SHAPE, resize=True)).tensor.shape == SHAPE
    assert len(processes() - before) == 1
    await made.close()
    while processes() - before:
        await asyncio.sleep(0.01)


async def test_small_pictures_need_no_process() -> None:
    made = Decoders(max_pixels=MAX_PIXELS, seconds=60.0)
    assert (await made.decode(read_header(pictures.png()), SHAPE, resize=False)).tensor.shape == SHAPE
    large, slow, small = LARGE, slow_picture(), read_header(pictures.png())
    assert (large.quick, slow.quick, small.quick) == (False, False, True)
    assert (large.heavy, slow.heavy, small.heavy) == (False, True, False)
    assert (large.tiny, slow.tiny, small.tiny) == (False, False, True)


async def test_heavy_pictures_take_one_process_and_others_pass() -> None:
    slow = slow_picture()
    async with decoders() as made:
        heavy = [asyncio.create_task(made.decode(slow, SHAPE, resize=True)) for _ in range(MOST_HEAVY)]
        while made._heavy.total() < MOST_HEAVY:
            await asyncio.sleep(0)
        with pytest.raises(QueueFull, match="large pictures") as caught:
            await made.decode(slow, SHAPE, resize=True)
        assert caught.value.retry_after_seconds == MOST_HEAVY  # at a second each, as long as none is done
        assert (await made.decode(LARGE, SHAPE, resize=True)).tensor.shape == SHAPE
        assert not all(task.done() for task in heavy)
        for task in heavy:
            task.cancel()
        await asyncio.gather(*heavy, return_exceptions=True)
        assert not made._heavy  # all are given back, and whoever has none is forgotten


async def test_a_client_s_heavy_picture_waits_for_one_of_another_s_and_not_for_all() -> None:
    heavy = read_header(pictures.encoded(pictures.gray(size=(8, 8)).resize((2100, 2100)), "PNG"))
    done: list[str] = []

    async def decode(lane: str) -> None:
        await made.decode(heavy, SHAPE, resize=True, lane=lane)
        done.append(lane)

    async with decoders() as made:
        async with asyncio.TaskGroup() as group:
            for _ in range(MOST_HEAVY):
                group.create_task(decode("crowd"))
            while made._heavy["crowd"] < MOST_HEAVY:
                await asyncio.sleep(0)
            group.create_task(decode("light"))  # let in, though there are as many as may be
        assert done.index("light") <= 2 and len(done) == MOST_HEAVY + 1
        assert not made._heavy
