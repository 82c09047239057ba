"""service.http.processes: one call at a time in a process that can be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from functools import partial

import pytest

from certify.service.http.processes import ProcessDied, Processes

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # each starts processes


async def test_calls_one_after_another_have_the_same_process() -> None:
    pool = Processes()
    first = await pool.run(os.getpid)
    assert first != os.getpid()
    assert await pool.run(partial(pow, 2, 10)) == 1024
    assert await pool.run(os.getpid) == first
    assert await pool.run(partial(bytes, 10**7)) == bytes(10**7)
    await pool.close()


async def test_a_process_that_dies_or_fails_is_said_and_replaced() -> None:
    pool = Processes()
    first = await pool.run(os.getpid)
    with pytest.raises(ProcessDied):
        await pool.run(partial(os.kill, first, signal.SIGKILL))
    with pytest.raises(ProcessDied):
        await pool.run(partial(int, "no number"))
    assert await pool.run(os.getpid) != first
    await pool.close()


async def test_what_is_printed_there_is_no_answer() -> None:
    pool = Processes()
    assert await pool.run(partial(print, "a library speaks")) is None
    await pool.close()


async def test_idle_processes_end() -> None:
    pool = Processes(idle_seconds=0.05)
    pid = await pool.run(os.getpid)
    while os.path.exists(f"/proc/{pid}"):
        await asyncio.sleep(0.01)
    assert await pool.run(os.getpid) != pid
    await pool.close()


async def test_cancelling_kills_what_works() -> None:
    pool = Processes()
    pid = await pool.run(os.getpid)
    task = asyncio.create_task(pool.run(partial(time.sleep, 3600)))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    while os.path.exists(f"/proc/{pid}"):
        await asyncio.sleep(0.01)
    await pool.close()
