"""Threads with two queues: work that somebody waits for, first come first served, and work that may idle threads do.

Of a call that is cut into many pieces a thread is never without one; of one that is a piece or two, the next comes by
way of its requester, a moment after its answer. Were the thread given to the long call in that moment, the short one
would wait for a whole piece at each of its steps, and behind all that the long call has under way. So a thread that
has answered a short call is kept for its requester for a moment (anticipatory scheduling; Iyer & Druschel, SOSP 2001),
and a long call beside short ones has as many threads as compute, less theirs, and always one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import BackendUnavailable

__all__ = ("KEPT_SECONDS", "Call", "Workers")

T = TypeVar("T")
# From an answer to the next call: a millisecond or two of a quiet event loop, some fifteen of one in a flood.
KEPT_SECONDS = 0.02


@dataclass(frozen=True, eq=False)
class Call:
    """What pieces of work belong together. requester: whose it is, the same from call to call.

    short: no more pieces than there are threads.
    """

    requester: int
    short: bool


_Job = tuple["Future[Any]", Callable[[], Any], Call]


class Workers:
    """`threads` of them, of which `busy` compute at once: others prepare and finish their work.

    Work ahead is begun while fewer than `busy` run and nobody waits.
    """

    def __init__(
        self,
        threads: int,
        *,
        busy: int,
        name: str,
        start: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """start: called once in each thread. clock: in seconds."""
        self._busy = busy
        self._start = start
        self._clock = clock
        self._urgent: deque[_Job] = deque()
        self._ahead: deque[_Job] = deque()
        self._running: list[Call] = []
        self._kept: list[tuple[float, int]] = []  # threads: until when, and for which requester
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def wanted(self, call: Call) -> bool:
        """Whether a thread of `call` should come back: others wait, the call has more than its share, or all ends."""
        with self._changed:
            if self._closed or any(other is not call and self._may_begin(other) for _, _, other in self._urgent):
                return True
            return self._running.count(call) > 1 and self._left(call) < 0

    def submit(self, work: Callable[[], T], *, call: Call, ahead: bool = False) -> Future[T]:
        """Cancelling the future drops work that has not begun. Raises BackendUnavailable after close()."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise _closed()
            (self._ahead if ahead else self._urgent).append((future, work, call))
            self._changed.notify()
        return future

    def promote(self, future: Future[Any]) -> None:
        """Somebody waits for work ahead: if it has not begun, it goes to the end of the other queue."""
        with self._changed:
            for job in self._ahead:
                if job[0] is future:
                    self._ahead.remove(job)
                    self._urgent.append(job)
                    self._changed.notify()
                    return

    def close(self, *, wait: bool = True) -> None:
        """What waits raises BackendUnavailable. wait: return only when what runs has ended."""
        with self._changed:
            self._closed = True
            waiting = [*self._urgent, *self._ahead]
            self._urgent.clear()
            self._ahead.clear()
            self._changed.notify_all()
        for future, *_ in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(_closed())
        for thread in self._threads if wait else ():
            thread.join()

    def _work(self) -> None:
        self._start()
        while (taken := self._next()) is not None:
            (future, work, call), ahead = taken
            try:
                if future.set_running_or_notify_cancel():
                    try:
                        result = work()
                    except BaseException as error:
                        future.set_exception(error)
                        del error
                    else:
                        future.set_result(result)
                        del result
            finally:
                del future, work, taken  # an idle thread keeps nothing of what it did
                with self._changed:
                    self._running.remove(call)
                    if call.short and not ahead:
                        self._kept.append((self._clock() + KEPT_SECONDS, call.requester))
                    self._changed.notify()

    def _next(self) -> tuple[_Job, bool] | None:
        """The next job, counted as running, and whether nobody waits for it; None when all is to end."""
        with self._changed:
            while not self._closed:
                self._kept = [kept for kept in self._kept if kept[0] > self._clock()]
                for job in self._urgent:
                    if self._may_begin(job[2]):
                        self._urgent.remove(job)
                        self._kept = [kept for kept in self._kept if kept[1] != job[2].requester]
                        return self._begun(job), False
                if self._ahead and not self._urgent and len(self._running) < self._busy:
                    return self._begun(self._ahead.popleft()), True
                # What waits beside free threads waits for one that is kept.
                first = min(self._kept)[0] - self._clock() if self._urgent and self._kept else None
                self._changed.wait(first)
            return None

    def _begun(self, job: _Job) -> _Job:
        self._running.append(job[2])
        if self._urgent:  # one thread is woken at a time
            self._changed.notify()
        return job

    def _may_begin(self, call: Call) -> bool:
        """Whether a piece of it may: the first of any call always."""
        return call.short or call not in self._running or self._left(call) > 0

    def _left(self, call: Call) -> int:
        """Threads that a long call may have beside what runs; below 0 it has too many."""
        requesters = [requester for _, requester in self._kept if requester != call.requester]
        beside = (other for other in (*self._running, *(job[2] for job in self._urgent)) if other.short)
        if not requesters and all(other.requester == call.requester for other in beside):
            return len(self._threads)
        return self._busy - len(self._running) - len(requesters)


def _closed() -> BackendUnavailable:
    return BackendUnavailable("the embedded backend was closed")
