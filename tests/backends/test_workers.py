"""Two queues: whoever waits comes first, and what nobody waits for keeps only idle threads busy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from certify.service.backends.workers import Workers
from certify.service.errors import BackendUnavailable


class Gate:
    """Work that says when it has begun, and ends when it may."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> int:
        self.begun.set()
        assert self.may_end.wait(60)
        return 1


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(2, busy=1, name="test", start=lambda: None)
    yield made
    made.close()


def test_work_ahead_waits_until_fewer_run_than_may_be_busy(workers: Workers) -> None:
    gate, order = Gate(), list[str]()
    running = workers.submit(gate)
    assert gate.begun.wait(60)
    ahead = workers.submit(lambda: order.append("ahead"), ahead=True)
    workers.submit(lambda: order.append("urgent")).result(60)  # the other thread is free for whoever waits
    assert order == ["urgent"] and not ahead.done() and not workers.wanted
    gate.may_end.set()
    assert running.result(60) == 1
    ahead.result(60)
    assert order == ["urgent", "ahead"]


def test_work_ahead_that_is_waited_for_is_no_longer_put_off(workers: Workers) -> None:
    gate = Gate()
    workers.submit(gate)
    assert gate.begun.wait(60)
    ahead = workers.submit(lambda: 2, ahead=True)
    workers.promote(ahead)
    assert ahead.result(60) == 2
    workers.promote(ahead)  # it has been done: nothing to do
    gate.may_end.set()


def test_what_has_not_begun_can_be_dropped(workers: Workers) -> None:
    gate = Gate()
    running = workers.submit(gate)
    assert gate.begun.wait(60)
    ahead = workers.submit(lambda: 3, ahead=True)
    assert ahead.cancel() and not running.cancel()
    with pytest.raises(CancelledError):
        ahead.result()
    gate.may_end.set()


def test_an_error_is_whose_work_it_was(workers: Workers) -> None:
    with pytest.raises(ZeroDivisionError):
        workers.submit(lambda: 1 // 0).result(60)
    assert workers.submit(lambda: 4).result(60) == 4


def test_closing_ends_what_runs_and_refuses_what_waits() -> None:
    workers = Workers(1, busy=1, name="test", start=lambda: None)
    gate = Gate()
    running = workers.submit(gate)
    assert gate.begun.wait(60)
    waiting = [workers.submit(lambda: 5), workers.submit(lambda: 6, ahead=True)]
    workers.close(wait=False)
    assert workers.wanted
    for future in waiting:
        with pytest.raises(BackendUnavailable, match="closed"):
            future.result(60)
    with pytest.raises(BackendUnavailable, match="closed"):
        workers.submit(lambda: 7)
    gate.may_end.set()
    workers.close()
    assert running.result() == 1
