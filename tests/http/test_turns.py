"""service.http.turns: nobody waits for somebody else's long request, and nobody's turn is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import ClassVar

import pytest

from certify.service.http.turns import QUANTUM, Requester, Turns

pytestmark = pytest.mark.anyio


class House:
    """Requests whose calls last until the test ends them, in the order in which they began."""

    built: ClassVar[list[House]] = []

    def __init__(self, limit: int, newcomers: int | None = None) -> None:
        self.built.append(self)
        self.turns = Turns(limit, newcomers=newcomers)
        self.stack = contextlib.ExitStack()  # every request stays in the house until the test is over
        self.running: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def call(self, name: str, requester: Requester, samples: int = 1) -> asyncio.Task[None]:
        task = asyncio.create_task(self._call(name, requester, samples))
        self._tasks.append(task)
        await self.settle()
        return task

    async def _call(self, name: str, requester: Requester, samples: int) -> None:
        async with requester.turn(samples):
            self.running.append(name)
            self._ends[name] = asyncio.Event()
            await self._ends[name].wait()
            self.running.remove(name)

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def empty(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture(autouse=True)
async def _nobody_stays() -> AsyncIterator[None]:
    """A call that is left behind ends when its memory is looked through, and fails whatever test is then running."""
    yield
    while House.built:
        await House.built.pop().empty()


def requesters(house: House, *clients: str) -> Iterator[Requester]:
    for client in clients:
        yield house.stack.enter_context(house.turns.request(client))


async def test_a_client_alone_uses_every_turn_and_no_more() -> None:
    house = House(2)
    for index, requester in enumerate(requesters(house, "a", "a", "a")):
        await house.call(f"a{index}", requester)
    assert house.running == ["a0", "a1"] and house.turns.held == 2
    await house.end("a0")
    assert house.running == ["a1", "a2"]


async def test_a_newcomer_does_not_wait_and_the_others_fall_back_to_their_share() -> None:
    house = House(4)
    crowd = list(requesters(house, *"aaaaaaaa"))
    for index, requester in enumerate(crowd):
        await house.call(f"a{index}", requester)
    assert len(house.running) == 4
    (light,) = requesters(house, "b")
    await house.call("b", light)
    assert "b" in house.running
    for name in ("a0", "a1", "a2"):  # a's share beside one other is 4 // 4 = 1
        await house.end(name)
    assert house.running == ["a3", "b"]
    await house.end("a3")
    assert len(house.running) == 2


async def test_newcomers_hold_as_many_turns_again_and_no_more() -> None:
    house = House(2)
    for name, requester in zip("ABcdef", requesters(house, *"aacdef"), strict=True):
        await house.call(name, requester)
    assert house.running == ["A", "B", "c", "d"]  # e and f wait, and however many more there were
    await house.end("c")
    assert house.running == ["A", "B", "d", "e"]


async def test_no_newcomer_passes_where_none_may() -> None:
    house = House(1, newcomers=0)
    for name, requester in zip(("a0", "a1", "a2", "b"), requesters(house, *"aaab"), strict=True):
        await house.call(name, requester)
    assert house.running == ["a0"]
    await house.end("a0")
    assert house.running == ["a1"]  # a was here first
    await house.end("a1")
    assert house.running == ["b"]  # and then each in its turn


async def test_equal_requests_of_one_client_are_served_in_the_order_in_which_they_came() -> None:
    house = House(1)
    first, second = requesters(house, "a", "a")
    await house.call("first", first, samples=2_048)
    await house.call("second", second, samples=2_048)
    await house.end("first")
    assert house.running == ["second"]
    await house.call("first again", first, samples=2_048)
    await house.call("never", second)
    await house.end("second")
    assert house.running == ["first again"]


async def test_a_request_that_has_drawn_much_lets_a_small_one_pass() -> None:
    house = House(1)
    large, small, busy = requesters(house, "a", "a", "a")
    large.drawn = QUANTUM
    await house.call("busy", busy)
    await house.call("large", large)
    await house.call("small", small)
    await house.end("busy")
    assert house.running == ["small"]


async def test_clients_take_turns_however_many_requests_each_has() -> None:
    house = House(2)
    crowd = list(requesters(house, "a", "a", "a", "a", "b", "c"))
    for index, requester in enumerate(crowd):
        await house.call(f"{requester.client}{index}", requester)
    assert {name[0] for name in house.running} == {"a", "b", "c"}


async def test_who_is_cancelled_while_waiting_loses_no_turn_for_others() -> None:
    house = House(1)
    first, second, third = requesters(house, "a", "a", "a")
    await house.call("first", first)
    waiting = await house.call("second", second)
    await house.call("third", third)
    waiting.cancel()
    await house.end("first")
    assert house.running == ["third"] and house.turns.held == 1
    await house.end("third")
    assert house.turns.held == 0


async def test_who_is_cancelled_at_the_moment_of_its_turn_gives_it_back() -> None:
    house = House(1)
    first, second, third = requesters(house, "a", "a", "a")
    await house.call("first", first)
    waiting = await house.call("second", second)
    await house.call("third", third)
    house._ends["first"].set()
    await asyncio.sleep(0)  # first has given its turn to second, whose task has not run yet
    waiting.cancel()
    await house.settle()
    assert house.running == ["third"] and house.turns.held == 1


async def test_a_client_that_has_left_is_forgotten() -> None:
    turns = Turns(2)
    with turns.request("a") as requester:
        async with requester.turn(1):
            assert turns.held == 1
    assert turns.held == 0 and not turns._clients


async def test_large_requests_leave_turns_to_small_ones_of_the_same_client() -> None:
    house = House(8)
    crowd = list(requesters(house, *"aaaaaaaa"))
    for index, requester in enumerate(crowd):
        requester.enlarge()
        await house.call(f"large{index}", requester)
    assert house.running == ["large0", "large1"]  # a quarter of the turns, and nobody else is here
    for index, small in enumerate(requesters(house, "a", "a")):
        await house.call(f"small{index}", small)
    assert house.running == ["large0", "large1", "small0", "small1"]
    await house.end("large0")
    assert house.running == ["large1", "small0", "small1", "large2"]
