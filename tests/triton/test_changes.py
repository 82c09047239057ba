"""Servers that come, go, die, sleep and change under sixteen clients. Nobody mends anything; every answer is right.

The servers are real; only the resolver is ours, so that a name's addresses change when a test says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest

pytest.importorskip("torch", reason="the mdds model needs torch (pip install 'certify[torch]')")

from certify.models.bundle import find_bundle, load_manifest
from certify.models.export import export
from certify.service.backends.embedded import EmbeddedBackend
from certify.service.backends.triton import TritonBackend
from certify.service.errors import BackendUnavailable
from certify.service.http.app import create_app
from certify.service.settings import load_settings
from tests import pictures
from tests.answer_rules import check
from tests.servers import SEED_KEY
from tests.triton.conftest import executed
from tests.triton.test_faults import other_bundle

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(600)]

CLIENTS = 16
COUNT = 640  # ten slices: a look has several calls on every server


class Name:
    """A name whose addresses a test changes; `lookups` counts how often it was asked for."""

    def __init__(self, *servers) -> None:
        self.servers = list(servers)
        self.lookups = 0
        self.down = False

    async def __call__(self, host: str, port: int) -> list[tuple[str, int]]:
        self.lookups += 1
        if self.down:
            raise OSError("no answer")
        return [("127.0.0.1", server.grpc_port) for server in self.servers]

    async def seen(self) -> None:
        """Until its present addresses have been looked up, and acted upon."""
        before = self.lookups
        while self.lookups < before + 2:
            await asyncio.sleep(0.02)


def backend_on(name: Name, **options: float) -> TritonBackend:
    return TritonBackend(
        ["dns:///triton:8001"], resolve=name, **{"call_seconds": 60.0, "watch_seconds": 0.5, **options}
    )


@pytest.fixture(scope="module")
def servers(make_server, tmp_path_factory):
    """Two of one instance each: together what two cores can run."""
    repository = tmp_path_factory.mktemp("changes") / "repository"
    export(find_bundle("digits"), repository, instances=1)
    return [make_server(repository), make_server(repository)]


@pytest.fixture
async def right() -> list[list[int]]:
    """The votes of sixteen streams, as the sampler in this process draws them."""
    embedded = EmbeddedBackend("digits", workers=2)
    await embedded.open()
    try:
        return [(await embedded.count_votes(**call(n))).tolist() for n in range(CLIENTS)]
    finally:
        await embedded.close()


def call(number: int) -> dict:
    image = pictures.tensor(number)
    return {"image": image, "sigma": (0.12, 0.25, 0.5)[number % 3], "seed": number, "first": 0, "count": COUNT}


class Crowd:
    """Sixteen clients that ask on and on, each for its own stream. Any failure or wrong vote ends the test."""

    def __init__(self, backend: TritonBackend, right: list[list[int]]) -> None:
        self._backend, self._right = backend, right
        self.answers = [0] * CLIENTS
        self._stop = False

    async def _client(self, number: int) -> None:
        while not self._stop:
            votes = await self._backend.count_votes(**call(number))
            assert votes.tolist() == self._right[number]
            self.answers[number] += 1
            await asyncio.sleep(0.1)  # a busy machine must have room left to start a server beside this

    async def go_on(self, rounds: int = 1) -> None:
        """Until every client has had so many more answers, or one has failed."""
        wanted = [done + rounds for done in self.answers]
        while any(done < least for done, least in zip(self.answers, wanted, strict=True)):
            for task in self._tasks:
                if task.done():
                    task.result()
                    raise AssertionError("a client stopped")
            await asyncio.sleep(0.02)

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[Crowd]:
        self._tasks = [asyncio.create_task(self._client(n)) for n in range(CLIENTS)]
        try:
            await self.go_on()
            yield self
            self._stop = True
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def crowd_on(name: Name, right: list[list[int]], **options: float) -> AsyncIterator[tuple[TritonBackend, Crowd]]:
    backend = backend_on(name, **options)
    await backend.open()
    try:
        async with Crowd(backend, right).asking() as crowd:
            yield backend, crowd
    finally:
        await backend.close()


async def test_a_server_that_leaves_the_name_finishes_its_calls_and_one_that_comes_is_asked(servers, right):
    one, two = servers
    name = Name(one, two)
    async with crowd_on(name, right) as (_, crowd):
        for here in ([one], [one, two], [two], [one, two], [one]):
            name.servers = here
            await name.seen()
            await crowd.go_on()
        name.servers = [two]
        await name.seen()
        await crowd.go_on(2)  # the first of these may have been asked of the server that has gone
        quiet = executed(one)
        await crowd.go_on()
        assert executed(one) == quiet  # nothing more is asked of it


async def test_a_resolver_that_is_down_changes_nothing(servers, right):
    name = Name(*servers)
    async with crowd_on(name, right) as (_, crowd):
        name.down = True
        await name.seen()
        await crowd.go_on()
        before = [executed(server) for server in servers]
        await crowd.go_on()
        assert all(executed(server) > known for server, known in zip(servers, before, strict=True))


async def test_a_connection_closed_under_its_calls_costs_no_vote(servers, right):
    """The limit on leaving is over at once: what was asked is asked of the other, and the sums are whole."""
    one, two = servers
    name = Name(one, two)
    async with crowd_on(name, right) as (backend, crowd):
        backend._replicas._leave_seconds = 0.0
        for here in ([one], [one, two], [two], [one, two]) * 2:
            name.servers = here
            await name.seen()
        await crowd.go_on()


async def test_a_killed_server_is_not_missed_and_is_asked_again_when_it_is_back(servers, right):
    one, two = servers
    async with crowd_on(Name(one, two), right) as (_, crowd):
        two.kill()
        await crowd.go_on()
        await asyncio.to_thread(two.start)
        while not executed(two):
            await crowd.go_on()


async def test_a_paused_server_is_not_waited_for(servers, right):
    """Paused for longer than a server may be silent; were its calls waited for, they would last call_seconds."""
    one, two = servers
    async with crowd_on(Name(one, two), right) as (_, crowd):
        os.kill(two.pid, signal.SIGSTOP)
        try:
            await crowd.go_on(3)
        finally:
            os.kill(two.pid, signal.SIGCONT)
        before = executed(two)
        while executed(two) < before + CLIENTS:
            await crowd.go_on()


async def test_an_address_of_ipv6_is_one(servers, right):
    """The server listens on IPv4 alone; a relay in this process gives it an address of the other kind."""

    relays: set[asyncio.Task[None] | None] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside, outside = await asyncio.open_connection("127.0.0.1", servers[0].grpc_port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(2**16):
                sink.write(data)
            sink.close()

        relays.add(asyncio.current_task())
        try:
            await asyncio.gather(pump(reader, outside), pump(inside, writer), return_exceptions=True)
        finally:
            for stream in (writer, outside):
                stream.close()
                with contextlib.suppress(OSError):
                    await stream.wait_closed()

    async with await asyncio.start_server(relay, "::1", 0) as listener:
        (address,) = [each.getsockname() for each in listener.sockets]

        async def six(host: str, port: int) -> list[tuple[str, int]]:
            return [address[:2]]

        backend = TritonBackend(["dns:///triton:8001"], call_seconds=60, resolve=six)
        await backend.open()
        try:
            assert (await backend.count_votes(**call(0))).tolist() == right[0]
        finally:
            await backend.close()
        # A connection that is left open would be found, and complained of, in another test.
        await asyncio.gather(*(task for task in relays if task is not None))


@contextlib.asynccontextmanager
async def gateway_on(name: Name) -> AsyncIterator[httpx.AsyncClient]:
    """The whole application on these servers, in this process, so that it can be given the resolver."""
    settings = load_settings(backend="triton", triton_url="dns:///triton:8001", seed_key=SEED_KEY)
    app = create_app(settings, backend_on(name, start_seconds=0.0))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://certify", timeout=300) as client:
            yield client


async def ready(client: httpx.AsyncClient, status: int = 200) -> None:
    while (await client.get("/readyz")).status_code != status:
        await asyncio.sleep(0.1)


async def test_a_gateway_started_before_its_servers_listens_and_finds_them(servers, digit):
    name = Name()
    async with gateway_on(name) as client:
        assert (await client.get("/livez")).status_code == 200
        while "no address" not in (await client.get("/readyz")).json()["detail"]:
            await asyncio.sleep(0.02)
        reply = await client.post("/certify", files={"image": digit})
        assert (reply.status_code, reply.json()["code"]) == (503, "backend_unavailable")
        assert "no address" in reply.json()["detail"] and int(reply.headers["Retry-After"])
        name.servers = servers
        await ready(client)
        check((await client.post("/certify", files={"image": digit})).json())


async def test_another_bundle_on_every_server_is_adopted_by_itself_under_sixteen_clients(servers, digit, tmp_path):
    """A rolling exchange: 503 only while no server runs what is served; no answer is of two bundles."""
    one, two = servers
    repository, digest = other_bundle(tmp_path)
    codes: Counter[tuple[str, int]] = Counter()
    phase = "both"
    stop = False
    answers: dict[str, set[str]] = {}

    async with gateway_on(Name(one, two)) as client:

        async def ask(number: int) -> None:
            turn = 0
            while not stop:
                began, turn = phase, turn + 1
                fields = {"samples": 1_000, "alpha": (10 + 3 * number + turn % 3) / 1e4}
                reply = await client.post("/certify", files={"image": digit}, data=fields)
                codes[began if began == phase else "between", reply.status_code] += 1
                if reply.status_code != 200:
                    assert reply.json()["code"] == "backend_unavailable" and int(reply.headers["Retry-After"])
                    await asyncio.sleep(0.2)
                    continue
                answer = check(reply.json())
                facts = {k: answer[k] for k in ("label", "radius", "stages", "samples_used", "threshold")}
                key = json.dumps([answer["bundle"]["digest"], fields])
                answers.setdefault(key, set()).add(json.dumps(facts))
                assert answer["threshold"] == thresholds[answer["bundle"]["digest"]]

        await ready(client)
        bundle = (await client.get("/info")).json()["bundle"]
        old = bundle["digest"]
        thresholds = {old: bundle["thresholds"], digest: list(load_manifest(tmp_path / "bundle").thresholds)}
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(ask(number))
            while codes["both", 200] < CLIENTS:
                await asyncio.sleep(0.1)
            await asyncio.to_thread(two.stop)
            two.repository = repository
            await asyncio.to_thread(two.start)
            await asyncio.sleep(2)  # some rounds of the watch: the stranger is known, and nothing has changed
            assert (await client.get("/info")).json()["bundle"]["digest"] == old
            assert {status for (_, status), n in codes.items() if n} == {200}
            newcomer = backend_on(Name(one, two), start_seconds=0.0)  # which of the two should it believe?
            with pytest.raises(BackendUnavailable, match=f"{two.url} runs another bundle.*{digest}"):
                await newcomer.open()
            phase = "none of ours"
            one.kill()
            while (await client.get("/info")).json().get("bundle", {}).get("digest") != digest:
                await asyncio.sleep(0.1)
            await ready(client)
            phase = "the other"
            while codes["the other", 200] < CLIENTS:
                await asyncio.sleep(0.1)
            one.repository = repository
            await asyncio.to_thread(one.start)
            while executed(one) < CLIENTS:
                await asyncio.sleep(0.1)
            stop = True
        assert not codes["both", 503] and not codes["the other", 503]
        assert all(len(facts) == 1 for facts in answers.values())  # each request has one answer under one bundle
        metrics = (await client.get("/metrics")).text
        (line,) = [line for line in metrics.splitlines() if line.startswith("certify_bundle_info{")]
        assert digest in line and line.endswith(" 1.0")
