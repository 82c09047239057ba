"""Names, addresses and clients, without a server: connections are made when they are first used."""

from __future__ import annotations

import asyncio
import logging

import pytest

from certify.service.backends.replicas import Abandoned, Replica, Replicas, look_up
from certify.service.errors import BackendUnavailable

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("address", "url"),
    [("10.0.0.7", "10.0.0.7:8001"), ("fd00::7", "[fd00::7]:8001"), ("fe80::1%eth0", "[fe80::1%eth0]:8001")],
)
async def test_an_address_is_written_as_grpc_reads_it(address: str, url: str) -> None:
    async def resolve(host: str, port: int) -> list[tuple[str, int]]:
        assert (host, port) == ("triton.ml.svc", 8001)
        return [(address, port)]

    replicas = Replicas(["dns:///triton.ml.svc:8001"], leave_seconds=1, resolve=resolve)
    await replicas.resolve()
    assert [replica.url for replica in replicas] == [url]
    await replicas.close()


async def test_the_systems_resolver_knows_this_machine() -> None:
    assert ("127.0.0.1", 8001) in await look_up("localhost", 8001) or ("::1", 8001) in await look_up("localhost", 8001)


async def test_a_name_that_is_none_leaves_the_other_targets_alone(caplog: pytest.LogCaptureFixture) -> None:
    replicas = Replicas([f"dns:///{'a' * 64}:1", "127.0.0.1:2"], leave_seconds=1)  # a label has at most 63 letters
    with caplog.at_level(logging.WARNING):
        await replicas.resolve()
    assert [replica.url for replica in replicas] == ["127.0.0.1:2"] and "cannot resolve aaaa" in caplog.text
    await replicas.close()


async def test_the_rested_the_least_busy_and_the_one_asked_longest_ago_come_first() -> None:
    replicas = Replicas(["a:1", "b:1", "c:1"], leave_seconds=1)
    await replicas.resolve()
    assert [replicas.choose().url for _ in range(4)] == ["a:1", "b:1", "c:1", "a:1"]
    a, b, c = sorted(replicas, key=lambda replica: replica.url)
    held = asyncio.create_task(b.ask(asyncio.sleep(3600)))
    await asyncio.sleep(0)
    c.rest(60)
    assert [replicas.choose() for _ in range(2)] == [a, a]
    a.refuse("it runs something else")
    assert replicas.choose() is b
    a.welcome()
    assert replicas.choose() is a
    for replica in replicas:
        replica.refuse("it runs something else")
    with pytest.raises(BackendUnavailable, match="b:1: it runs something else"):
        replicas.choose()
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)
    await replicas.close()


async def test_a_call_that_others_cancel_is_no_end_of_ours_and_ours_is() -> None:
    replica = Replica("a:1")
    given_up = asyncio.create_task(replica.ask(asyncio.sleep(3600)))
    ours = asyncio.create_task(replica.ask(asyncio.sleep(3600)))
    await asyncio.sleep(0)
    ours.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ours
    assert replica.in_flight == 1
    replica.abandon()
    with pytest.raises(Abandoned, match="a:1"):
        await given_up
    assert replica.in_flight == 0
    await replica.client.close()
    with pytest.raises(Abandoned, match="a:1"):
        await replica.ask(replica.client.is_server_live())


async def test_a_server_that_leaves_finishes_its_calls_but_not_for_ever() -> None:
    replica = Replica("a:1")
    short = asyncio.create_task(replica.ask(asyncio.sleep(0.05, "its answer")))
    await asyncio.sleep(0)
    await replica.leave(3600)
    assert short.done() and await short == "its answer"
    stuck = Replica("b:1")
    never = asyncio.create_task(stuck.ask(asyncio.sleep(3600)))
    await asyncio.sleep(0)
    await stuck.leave(0.01)
    with pytest.raises(Abandoned):
        await never
