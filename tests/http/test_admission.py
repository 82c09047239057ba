from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from certify.service.errors import Draining, QueueFull
from certify.service.http.admission import PROMPT_MISTAKES, PROMPT_REFUSALS, Admission
from certify.service.http.keys import ANYBODY, Client
from certify.service.http.metrics import Metrics
from certify.service.http.turns import QUANTUM

pytestmark = pytest.mark.anyio


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def admission(running: int, queued: int, clock: Clock | None = None) -> tuple[Admission, CollectorRegistry]:
    registry = CollectorRegistry()
    metrics = Metrics(registry, version="0", codes=())
    return Admission(running=running, queued=queued, metrics=metrics, clock=clock or Clock()), registry


async def test_places_are_bounded_and_given_back_even_after_an_error() -> None:
    house, registry = admission(1, 1)
    with pytest.raises(KeyError), house.place(), house.place():
        assert registry.get_sample_value("certify_queue_depth") == 2
        with pytest.raises(QueueFull), house.place():
            raise AssertionError("a third place was given")
        raise KeyError
    assert house.idle
    assert registry.get_sample_value("certify_queue_depth") == 0
    with house.place():
        assert not house.idle


async def test_turns_are_bounded_and_come_in_order() -> None:
    house, registry = admission(2, 10)
    order: list[int] = []
    leave = asyncio.Event()

    async def request(number: int) -> None:
        with house.place() as place:
            async with place.turn(1):
                order.append(number)
                await leave.wait()

    tasks = [asyncio.create_task(request(number)) for number in range(5)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert order == [0, 1]
    assert registry.get_sample_value("certify_in_flight") == 2
    assert registry.get_sample_value("certify_queue_depth") == 3
    leave.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert registry.get_sample_value("certify_in_flight") == 0
    assert registry.get_sample_value("certify_queue_wait_seconds_count") == 5


async def test_a_waiter_that_is_cancelled_leaves_no_gap() -> None:
    house, registry = admission(1, 10)
    leave = asyncio.Event()
    done: list[str] = []

    async def request(name: str) -> None:
        with house.place() as place:
            async with place.turn(1):
                await leave.wait()
                done.append(name)

    first, second, third = [asyncio.create_task(request(name)) for name in ("first", "second", "third")]
    await asyncio.sleep(0)
    second.cancel()
    leave.set()
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert done == ["first", "third"]
    assert house.idle
    assert registry.get_sample_value("certify_queue_depth") == 0


async def test_retry_after_grows_with_the_time_that_requests_take_and_is_bounded() -> None:
    clock = Clock()
    house, _ = admission(1, 0, clock)

    def retry_after() -> int:
        with house.place(), pytest.raises(QueueFull) as caught, house.place():
            pass
        return caught.value.retry_after_seconds

    assert retry_after() == 1
    for _ in range(30):
        with house.place() as place:
            async with place.turn(1):
                clock.now += 20
    assert 15 <= retry_after() <= 20
    for _ in range(30):
        with house.place() as place:
            async with place.turn(1):
                clock.now += 100_000
    assert retry_after() == 300


async def test_draining_refuses_the_new_and_keeps_what_had_come_in() -> None:
    house, _ = admission(1, 1)
    with house.arrival():
        house.drain()
        assert house.draining
        assert not house.idle
        with pytest.raises(Draining), house.arrival():
            raise AssertionError("a request was let in")
    assert house.idle
    with house.place() as place:
        assert not house.idle
        async with place.turn(1):
            assert not house.aborted.is_set()
    assert house.idle


@pytest.mark.parametrize("prompt", [PROMPT_REFUSALS, PROMPT_MISTAKES])
async def test_refusals_are_held_back_only_in_a_flood(prompt: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, held = Clock(), []

    async def sleep(seconds: float) -> None:
        held.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    house, _ = admission(1, 1, clock)
    for _ in range(prompt):
        await house.hold_back(prompt)
    assert not held
    await house.hold_back(prompt)
    assert held == [1.0]
    clock.now = 1.0
    await house.hold_back(prompt)
    assert held == [1.0]


async def test_abort_tells_whoever_waits() -> None:
    house, _ = admission(1, 1)
    waiting = asyncio.create_task(house.aborted.wait())
    house.abort()
    assert await waiting
    assert house.draining


async def test_a_request_on_its_way_holds_no_place_and_needs_one_to_be_free() -> None:
    house, registry = admission(1, 0)
    with house.arrival(), house.arrival():
        assert registry.get_sample_value("certify_arriving") == 2
        assert registry.get_sample_value("certify_queue_depth") == 0
        with house.place(), pytest.raises(QueueFull), house.arrival():
            raise AssertionError("a body would be read for nothing")
    assert registry.get_sample_value("certify_arriving") == 0


async def test_a_client_has_no_more_places_than_its_own_and_leaves_the_others_theirs() -> None:
    house, _ = admission(4, 4)
    light, heavy = (Client(name=name, samples_a_minute=None, places=2) for name in ("light", "heavy"))
    with house.place(heavy), house.place(heavy):
        with pytest.raises(QueueFull, match="at most 2 requests of heavy"), house.place(heavy):
            raise AssertionError("a third place was given")
        with house.place(light):
            pass
    with house.place(heavy):
        pass


async def test_what_was_drawn_is_known_whatever_became_of_it() -> None:
    house, _ = admission(1, 1)
    with house.place() as place:
        with pytest.raises(KeyError):
            async with place.turn(32):
                raise KeyError
        async with place.turn(64):
            pass
        assert place.drawn == 96


async def test_large_requests_leave_places_for_small_ones() -> None:
    house, _ = admission(2, 10)
    with contextlib.ExitStack() as stack:
        for _ in range(9):  # three quarters of the places
            stack.enter_context(house.size(stack.enter_context(house.place()), QUANTUM + 1))
        with house.place() as place:
            with pytest.raises(QueueFull, match="at most 9 requests of more than"), house.size(place, QUANTUM + 1):
                raise AssertionError("a tenth large request was let in")
            with house.size(place, QUANTUM):
                pass
    with house.place() as place, house.size(place, QUANTUM + 1):
        pass


async def test_large_requests_may_use_every_turn_of_a_small_house() -> None:
    house, _ = admission(2, 0)
    with house.place() as one, house.size(one, QUANTUM + 1), house.place() as two, house.size(two, QUANTUM + 1):
        pass


async def test_a_full_house_lets_in_a_client_below_its_share_and_no_more_of_it() -> None:
    house, _ = admission(4, 4)
    light, heavy = (Client(name=name, samples_a_minute=None, places=100) for name in ("light", "heavy"))
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(house.place(heavy)) for _ in range(8)]
        for place in places[:6]:
            stack.enter_context(house.size(place, QUANTUM + 1))
        with pytest.raises(QueueFull), house.size(places[6], QUANTUM + 1):
            raise AssertionError("a seventh large request was let in")
        with pytest.raises(QueueFull), house.arrival(heavy):
            raise AssertionError("a client alone has no share")
        for _ in range(2):  # half of an even share, 8 / 2
            stack.enter_context(house.arrival(light))
            stack.enter_context(house.place(light))
        with pytest.raises(QueueFull), house.place(light):
            raise AssertionError("a third was let into a full house")
    assert house.idle


async def test_a_full_house_lets_in_half_as_many_more_however_many_clients_there_are() -> None:
    house, _ = admission(2, 6)
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(house.place(replace(ANYBODY, peer="192.0.2.1")))
        for number in range(4):
            stack.enter_context(house.place(replace(ANYBODY, peer=f"198.51.100.{number}")))
        with pytest.raises(QueueFull), house.place(replace(ANYBODY, peer="203.0.113.1")):
            raise AssertionError("a thirteenth was let into a house of eight")
    assert not house._places  # an address that has left is forgotten


async def test_a_small_request_does_not_wait_for_large_ones_of_its_client() -> None:
    house, _ = admission(1, 10)
    end = asyncio.Event()

    async def large() -> None:
        with house.place() as place, house.size(place, QUANTUM + 1):
            async with place.turn(1):
                await end.wait()

    tasks = [asyncio.create_task(large()) for _ in range(2)]
    await asyncio.sleep(0)
    with house.place() as place, house.size(place, QUANTUM):
        async with asyncio.timeout(60), place.turn(1):
            assert not any(task.done() for task in tasks)
    end.set()
    await asyncio.gather(*tasks)
    assert house.idle


async def test_an_image_of_a_batch_waits_for_a_place_and_leaves_a_quarter_of_them() -> None:
    house, _ = admission(1, 7)
    went_in: list[int] = []
    leave = [asyncio.Event() for _ in range(9)]

    async def image(number: int, client: Client) -> None:
        async with house.next_place(client, 1000):
            went_in.append(number)
            await leave[number].wait()

    async def settle() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(image(number, ANYBODY)) for number in range(7)]
    await settle()
    assert went_in == [*range(6)]  # of eight
    with house.place(), house.place():
        with pytest.raises(QueueFull):
            house.check(ANYBODY)
        # Whoever has none comes in, as to any place.
        tasks.append(asyncio.create_task(image(7, replace(ANYBODY, peer="elsewhere"))))
        await settle()
        assert went_in == [*range(6), 7]
        leave[0].set()
        await settle()
        assert went_in == [*range(6), 7]  # 8 of 8 again
    await settle()
    leave[1].set()
    leave[2].set()
    await settle()
    assert went_in == [*range(6), 7, 6]
    for event in leave:
        event.set()
    await asyncio.gather(*tasks)
    assert house.idle


async def test_a_batch_keeps_to_its_clients_places_and_to_those_of_large_requests() -> None:
    house, _ = admission(1, 7)
    few = Client(name="few", samples_a_minute=None, places=1)
    async with house.next_place(few, QUANTUM):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), house.next_place(few, QUANTUM):
                raise AssertionError("a second place was given")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(6):
            place = stack.enter_context(house.place())
            stack.enter_context(house.size(place, QUANTUM + 1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), house.next_place(ANYBODY, QUANTUM + 1):
                raise AssertionError("a seventh large request was let in")


def test_a_batch_between_two_images_is_at_work() -> None:
    house, _ = admission(1, 1)
    with house.batch():
        assert not house.idle
    assert house.idle
