"""Threads with two queues: work that somebody waits for, first come first served, and work that may idle threads do."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from ..errors import BackendUnavailable

__all__ = ("Workers",)

T = TypeVar("T")
_Job = tuple["Future[Any]", Callable[[], Any]]


class Workers:
    """`threads` of them. Work ahead is begun while fewer than `busy` run and nobody waits."""

    def __init__(self, threads: int, *, busy: int, name: str, start: Callable[[], None]) -> None:
        """start: called once in each thread."""
        self._busy = busy
        self._start = start
        self._urgent: deque[_Job] = deque()
        self._ahead: deque[_Job] = deque()
        self._running = 0
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def wanted(self) -> bool:
        """Whether a thread should come back for other work: somebody waits, or all is to end."""
        return bool(self._urgent) or self._closed

    def submit(self, work: Callable[[], T], *, ahead: bool = False) -> Future[T]:
        """Cancelling the future drops work that has not begun. Raises BackendUnavailable after close()."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise _closed()
            (self._ahead if ahead else self._urgent).append((future, work))
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
        for future, _ in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(_closed())
        for thread in self._threads if wait else ():
            thread.join()

    def _work(self) -> None:
        self._start()
        while (job := self._next()) is not None:
            future, work = job
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
                del future, work, job  # an idle thread keeps nothing of what it did
                with self._changed:
                    self._running -= 1
                    self._changed.notify()

    def _next(self) -> _Job | None:
        """The next job, counted as running; None when all is to end."""
        with self._changed:
            while not self._closed:
                if self._urgent:
                    self._running += 1
                    return self._urgent.popleft()
                if self._ahead and self._running < self._busy:
                    self._running += 1
                    return self._ahead.popleft()
                self._changed.wait()
            return None


def _closed() -> BackendUnavailable:
    return BackendUnavailable("the embedded backend was closed")
