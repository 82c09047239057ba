"""Which request begins next: few in a round of the loop, in turn by address."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from certify.service.http.starts import Starts

pytestmark = pytest.mark.anyio


async def test_a_flood_from_one_address_lets_others_pass_and_a_round_is_short() -> None:
    starts, begun = Starts(), list[str]()
    for number in range(100):
        starts.ask(number, "flood", partial(begun.append, "flood"))
    first = len(begun)
    assert 0 < first < 10
    starts.ask("honest", "elsewhere", partial(begun.append, "honest"))
    assert "honest" not in begun
    await asyncio.sleep(0)
    assert "honest" in begun[first : first + 2]
    assert len(begun) == 2 * first
    while len(begun) < 101:
        await asyncio.sleep(0)
    assert begun.count("honest") == 1


async def test_of_one_address_those_who_came_first_begin_first() -> None:
    starts, begun = Starts(), list[int]()
    for number in range(20):
        starts.ask(number, "", partial(begun.append, number))
    while len(begun) < 20:
        await asyncio.sleep(0)
    assert begun == list(range(20))


async def test_who_leaves_before_its_turn_never_begins() -> None:
    starts, begun = Starts(), list[int]()
    for number in range(20):
        starts.ask(number, "", partial(begun.append, number))
    first = len(begun)
    assert not starts.forget(0, "")  # it has begun
    assert starts.waits(19, "")
    assert all(starts.forget(number, "") for number in range(first, 20))
    assert not starts.waits(19, "")
    starts.ask(20, "", partial(begun.append, 20))
    await asyncio.sleep(0)
    assert begun == [*range(first), 20]
