"""How long a backend's call may take, call after call."""

from __future__ import annotations

import asyncio
import math

__all__ = ("Limit",)


class Limit:
    """asyncio.timeout for call after call of one task, by one timer: setting one a call costs more than all else here.

    The timer is set for a call's end and, when it rings, for the end of whichever call is then under way.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._rings = math.inf  # when it does, in the loop's time
        self._ends: float | None = None  # of the call under way
        self._over = False
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0

    def within(self, seconds: float | None) -> Limit:
        """Of the next call, from now on; None: no limit."""
        self._ends = None if seconds is None else self._loop.time() + seconds
        return self

    def close(self) -> None:
        """No more calls."""
        if self._timer is not None:
            self._timer.cancel()

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._over, self._cancelling = False, self._task.cancelling() if self._task else 0
        if self._ends is not None and self._ends < self._rings:
            self._set(self._ends)

    def __exit__(self, kind: type[BaseException] | None, failure: object, trace: object) -> None:
        # Not kept: a task has its error, whose traceback has us.
        self._ends, task, self._task = None, self._task, None
        if self._over and task is not None:
            # Another's cancellation beside ours goes on as one: asyncio.Timeout does the same.
            alone = task.uncancel() <= self._cancelling
            if alone and kind is not None and issubclass(kind, asyncio.CancelledError):
                raise TimeoutError

    def _set(self, when: float) -> None:
        self.close()
        self._rings = when
        past = when <= self._loop.time()
        self._timer = self._loop.call_soon(self._ring) if past else self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer, self._rings = None, math.inf
        if self._ends is None or self._task is None:  # the next call sets it again
            return
        if self._loop.time() < self._ends:
            self._set(self._ends)
            return
        self._over = True
        self._task.cancel()
