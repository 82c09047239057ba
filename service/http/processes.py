"""Processes of our own that do one thing at a time, and can be killed while they do it.

anyio's to_process does nearly this, but a call that is cancelled while its process starts leaves that process behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import TypeVar

from .process_child import HEAD_BYTES, message

__all__ = ("ProcessDied", "Processes")

T = TypeVar("T")
# Whoever decoded one large picture may decode another soon; a process takes 50 MB.
_IDLE_SECONDS = 300.0


class ProcessDied(Exception):
    """It ended before it had answered."""


class Processes:
    """They are begun when they are needed, and kept for a while. Create it inside the event loop that serves."""

    def __init__(self, *, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._idle: list[tuple[Process, asyncio.TimerHandle]] = []  # the one that worked last at the end
        self._ending: set[asyncio.Task[int]] = set()
        self._starting: list[asyncio.Task[Process]] = []  # for callers that have gone

    async def run(self, work: Callable[[], T]) -> T:
        """work(), in one of them: it and its value are pickled. Cancelling kills the process.

        `work` must not raise: an error in the process ends it, and is ProcessDied here.
        """
        call = message(work)
        process = await self._taken()
        try:
            answer = await _asked(process, call)
        except BaseException:
            await asyncio.shield(self._kill(process))  # its memory is gone before another has its turn
            raise
        self._keep(process)
        value: T = pickle.loads(answer)
        return value

    async def close(self) -> None:
        """End those that do nothing; return when all have ended."""
        if self._starting:
            await asyncio.wait(self._starting)
        while self._idle:
            process, timer = self._idle.pop()
            timer.cancel()
            self._kill(process)
        await asyncio.gather(*self._ending)

    async def _taken(self) -> Process:
        while self._idle:
            process, timer = self._idle.pop()
            timer.cancel()
            if process.returncode is None:
                return process
        start = self._starting.pop() if self._starting else asyncio.create_task(_start())
        try:
            # Shielded: a start that is broken off half-way may leave a process that nobody knows.
            return await asyncio.shield(start)
        except asyncio.CancelledError:
            self._starting.append(start)
            start.add_done_callback(self._started)
            raise

    def _started(self, start: asyncio.Task[Process]) -> None:
        """If nobody has taken it over meanwhile."""
        if start in self._starting:
            self._starting.remove(start)
            if not start.cancelled() and start.exception() is None:
                self._keep(start.result())

    def _keep(self, process: Process) -> None:
        timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._end, process)
        self._idle.append((process, timer))

    def _end(self, process: Process) -> None:
        self._idle = [pair for pair in self._idle if pair[0] is not process]
        self._kill(process)

    def _kill(self, process: Process) -> asyncio.Task[int]:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        end = asyncio.create_task(process.wait())
        self._ending.add(end)
        end.add_done_callback(self._ending.discard)
        return end


async def _start() -> Process:
    # It finds what this process finds: it may be asked for anything that can be imported here.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    module = f"{__package__}.process_child"
    return await asyncio.create_subprocess_exec(sys.executable, "-m", module, stdin=PIPE, stdout=PIPE, env=environment)


async def _asked(process: Process, call: bytes) -> bytes:
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(call)
        await process.stdin.drain()
        size = int.from_bytes(await process.stdout.readexactly(HEAD_BYTES), "big")
        return await process.stdout.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError, RuntimeError) as error:  # RuntimeError: uvloop's, of a pipe
        raise ProcessDied from error
