"""Two queues: whoever waits comes first, and what nobody waits for keeps only idle threads busy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

import pytest

from certify.service.backends.workers import KEPT_SECONDS, Call, Workers
from certify.service.errors import BackendUnavailable

CALL = Call(0, short=False)


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
    running = workers.submit(gate, call=CALL)
    assert gate.begun.wait(60)
    ahead = workers.submit(lambda: order.append("ahead"), call=CALL, ahead=True)
    workers.submit(lambda: order.append("urgent"), call=CALL).result(60)  # the other thread is free for whoever waits
    assert order == ["urgent"] and not ahead.done() and not workers.wanted(CALL)
    gate.may_end.set()
    assert running.result(60) == 1
    ahead.result(60)
    assert order == ["urgent", "ahead"]


def test_work_ahead_that_is_waited_for_is_no_longer_put_off(workers: Workers) -> None:
    gate = Gate()
    workers.submit(gate, call=CALL)
    assert gate.begun.wait(60)
    ahead = workers.submit(lambda: 2, call=CALL, ahead=True)
    workers.promote(ahead)
    assert ahead.result(60) == 2
    workers.promote(ahead)  # it has been done: nothing to do
    gate.may_end.set()


def test_what_has_not_begun_can_be_dropped(workers: Workers) -> None:
    gate = Gate()
    running = workers.submit(gate, call=CALL)
    assert gate.begun.wait(60)
    ahead = workers.submit(lambda: 3, call=CALL, ahead=True)
    assert ahead.cancel() and not running.cancel()
    with pytest.raises(CancelledError):
        ahead.result()
    gate.may_end.set()


def test_an_error_is_whose_work_it_was(workers: Workers) -> None:
    with pytest.raises(ZeroDivisionError):
        workers.submit(lambda: 1 // 0, call=CALL).result(60)
    assert workers.submit(lambda: 4, call=CALL).result(60) == 4


def test_closing_ends_what_runs_and_refuses_what_waits() -> None:
    workers = Workers(1, busy=1, name="test", start=lambda: None)
    gate = Gate()
    running = workers.submit(gate, call=CALL)
    assert gate.begun.wait(60)
    waiting = [workers.submit(lambda: 5, call=CALL), workers.submit(lambda: 6, call=CALL, ahead=True)]
    workers.close(wait=False)
    assert workers.wanted(CALL)
    for future in waiting:
        with pytest.raises(BackendUnavailable, match="closed"):
            future.result(60)
    with pytest.raises(BackendUnavailable, match="closed"):
        workers.submit(lambda: 7, call=CALL)
    gate.may_end.set()
    workers.close()
    assert running.result() == 1


class Pieces:
    """Work of one call: each piece ends when the test says so, and the order in which they begin is seen."""

    def __init__(self, workers: Workers, call: Call) -> None:
        self.workers, self.call = workers, call
        self.gates: list[Gate] = []
        self.futures: list[Future[int]] = []

    def submit(self) -> Gate:
        self.gates.append(Gate())
        self.futures.append(self.workers.submit(self.gates[-1], call=self.call))
        return self.gates[-1]

    @property
    def running(self) -> int:
        return sum(gate.begun.is_set() and not gate.may_end.is_set() for gate in self.gates)


def end(*gates: Gate) -> None:
    for gate in gates:
        gate.may_end.set()


@pytest.fixture
def now() -> list[float]:
    return [0.0]  # the workers' clock


@pytest.fixture
def four(now: list[float]) -> Iterator[Workers]:
    """Four threads, of which two compute at once."""
    made = Workers(4, busy=2, name="test", start=lambda: None, clock=lambda: now[0])
    yield made
    made.close()


def test_a_long_call_has_one_thread_while_short_ones_come_one_after_another(four: Workers, now: list[float]) -> None:
    long = Pieces(four, Call(1, short=False))
    first = [long.submit() for _ in range(4)]
    assert all(gate.begun.wait(60) for gate in first) and not four.wanted(long.call)  # alone it has every thread
    short = Pieces(four, Call(2, short=True))
    answered = short.submit()
    assert four.wanted(long.call)
    end(first[0])
    assert answered.begun.wait(60) and four.wanted(long.call)  # three beside it are more than its share
    end(*first[1:3])
    for future in long.futures[:3]:
        future.result(60)
    parked = [long.submit() for _ in range(3)]
    assert not four.wanted(long.call)  # its last thread goes on by itself
    for _ in range(5):  # what is waited for begins at once, and the long call has one thread all the time
        end(answered)
        assert short.futures[-1].result(60) == 1
        answered = short.submit()
        assert answered.begun.wait(60) and long.running == 1
        assert not any(gate.begun.is_set() for gate in parked)
    end(answered)
    assert short.futures[-1].result(60) == 1
    now[0] += 2 * KEPT_SECONDS  # nobody has come back
    assert all(gate.begun.wait(60) for gate in parked) and long.running == 4
    end(*long.gates)


def test_a_long_call_is_never_without_a_thread(four: Workers) -> None:
    shorts = [Pieces(four, Call(number, short=True)) for number in range(2, 7)]
    held = [pieces.submit() for pieces in shorts[:4]]
    assert all(gate.begun.wait(60) for gate in held)
    long = Pieces(four, Call(1, short=False))
    pieces = [long.submit(), long.submit()]
    end(held[0])
    assert pieces[0].begun.wait(60)  # though more compute than can at once
    end(held[1])
    assert shorts[4].submit().begun.wait(60) and not pieces[1].begun.is_set()
    end(*held, *pieces, *shorts[4].gates)


def test_nobody_keeps_a_thread_from_itself(four: Workers) -> None:
    short, long = Pieces(four, Call(1, short=True)), Pieces(four, Call(1, short=False))
    for _ in range(4):
        short.submit()
    end(*short.gates)
    assert [future.result(60) for future in short.futures] == [1] * 4
    pieces = [long.submit() for _ in range(4)]
    assert all(gate.begun.wait(60) for gate in pieces)
    end(*pieces)
