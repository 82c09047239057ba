"""service.http.budgets: samples are reserved, and given back, in this process and in a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from certify.models.triton.server import free_ports
from certify.service.errors import BudgetSpent, SettingsError
from certify.service.http.budgets import Budgets
from certify.service.http.keys import ANYBODY, Client

pytestmark = pytest.mark.anyio

CLIENT = Client(name="camera", samples_a_minute=1_000, places=4)
OTHER = Client(name="batch", samples_a_minute=1_000, places=4)


@pytest.fixture(scope="module")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real server, and its address."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        pytest.skip("needs redis-server or valkey-server (apt-get install redis-server)")
    pytest.importorskip("redis", reason="needs pip install 'certify[budgets]'")
    [port] = free_ports(1)
    folder: Path = tmp_path_factory.mktemp("redis")
    server = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}", server
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def redis(redis_process: tuple[str, subprocess.Popen[bytes]]) -> str:
    return redis_process[0]


@pytest.fixture(params=["memory", "redis"])
def storage(request: pytest.FixtureRequest) -> str:
    return "memory://" if request.param == "memory" else request.getfixturevalue("redis")


@pytest.fixture(autouse=True)
def _a_busy_machine_is_no_storage_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certify.service.http.budgets._STORAGE_SECONDS", 60)


@contextlib.asynccontextmanager
async def opened(storage: str) -> AsyncIterator[Budgets]:
    budgets = Budgets(storage)
    try:
        yield budgets
    finally:
        await budgets.close()


@pytest.fixture
async def budgets(storage: str) -> AsyncIterator[Budgets]:
    async with opened(storage) as made:
        yield made


def fresh(name: str) -> Client:
    return Client(name=f"{name}-{time.monotonic_ns()}", samples_a_minute=1_000, places=4)


async def spend(budgets: Budgets, client: Client, samples: int, used: int) -> None:
    async with budgets.reserve(client, samples) as reservation:
        reservation.used = used


async def test_what_is_not_used_is_given_back(budgets: Budgets) -> None:
    client = fresh("camera")
    for _ in range(10):
        await spend(budgets, client, 550, used=50)
    with pytest.raises(BudgetSpent, match="at most the 500 that"):
        await spend(budgets, client, 600, used=0)
    await spend(budgets, client, 500, used=500)


async def test_a_refused_request_takes_nothing_and_says_when_to_come_again(budgets: Budgets) -> None:
    client = fresh("camera")
    async with budgets.reserve(client, 800):
        for _ in range(5):
            with pytest.raises(BudgetSpent) as caught:
                await spend(budgets, client, 300, used=0)
            assert 1 <= caught.value.retry_after_seconds <= 60
        await spend(budgets, client, 200, used=0)


async def test_a_request_that_fails_gives_everything_back(budgets: Budgets) -> None:
    client = fresh("camera")
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with budgets.reserve(client, 1_000):
                raise ZeroDivisionError
    await spend(budgets, client, 1_000, used=0)


async def test_a_client_that_leaves_while_it_takes_gives_everything_back(budgets: Budgets) -> None:
    async def ask() -> None:
        async with budgets.reserve(CLIENT, 1_000):
            raise AssertionError("it had left")

    for _ in range(20):
        task = asyncio.create_task(ask())
        await asyncio.sleep(0)  # it has begun to take them
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    async with budgets.reserve(CLIENT, 1_000):
        pass


async def test_clients_have_budgets_of_their_own(budgets: Budgets) -> None:
    client = fresh("camera")
    await spend(budgets, client, 1_000, used=1_000)
    await spend(budgets, fresh("other"), 1_000, used=1_000)


async def test_gateways_that_share_a_storage_share_a_budget(redis: str) -> None:
    client = fresh("camera")
    async with opened(redis) as here, opened(redis) as there:
        await spend(here, client, 900, used=900)
        with pytest.raises(BudgetSpent):
            await spend(there, client, 200, used=0)


async def test_more_than_a_whole_budget_is_refused_in_words() -> None:
    with pytest.raises(BudgetSpent, match="the budget of camera for a minute"):
        await spend(Budgets("memory://"), CLIENT, 1_001, used=0)


async def test_whoever_has_no_budget_spends_none() -> None:
    for _ in range(3):
        await spend(Budgets("memory://"), ANYBODY, 10**9, used=10**9)


async def test_crowds_never_spend_more_than_the_budget(budgets: Budgets) -> None:
    client = fresh("crowd")
    spent = 0

    async def one() -> None:
        nonlocal spent
        try:
            async with budgets.reserve(client, 70) as reservation:
                await asyncio.sleep(0)
                reservation.used = 70
                spent += 70
        except BudgetSpent:
            return

    await asyncio.gather(*(one() for _ in range(100)))
    assert 0 < spent <= 1_000


async def test_while_the_storage_is_away_this_gateway_counts_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("redis", reason="needs pip install 'certify[budgets]'")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with opened(f"redis://127.0.0.1:{nobody.getsockname()[1]}") as budgets:
            await spend(budgets, OTHER, 900, used=900)
            with pytest.raises(BudgetSpent):
                await spend(budgets, OTHER, 200, used=0)
    assert "the storage is away" in caplog.text


async def test_a_storage_that_stalls_is_waited_for_once(
    redis_process: tuple[str, subprocess.Popen[bytes]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not at each call of each request."""
    address, server = redis_process
    client = fresh("camera")
    server.send_signal(signal.SIGSTOP)
    try:
        monkeypatch.setattr("certify.service.http.budgets._PAUSE_SECONDS", 3600)
        monkeypatch.setattr("certify.service.http.budgets._STORAGE_SECONDS", 1)
        async with opened(address) as budgets:
            await spend(budgets, client, 900, used=100)
            await spend(budgets, client, 900, used=900)
            with pytest.raises(BudgetSpent):
                await spend(budgets, client, 200, used=0)
    finally:
        server.send_signal(signal.SIGCONT)
    assert caplog.text.count("the storage is away") == 1
    async with opened(address) as here, opened(address) as there:  # it counts again
        await spend(here, client, 900, used=900)
        with pytest.raises(BudgetSpent):
            await spend(there, client, 900, used=0)


@pytest.mark.parametrize("uri", ["", "memory", "postgres://x", "file:///etc/passwd", "redis://host:port:port"])
async def test_another_storage_stops_the_start(uri: str) -> None:
    with pytest.raises(SettingsError, match="CERTIFY_BUDGET_STORAGE"):
        Budgets(uri)
