"""A gateway listens before its backend is there, and adopts another bundle only between two answers.

On the fake backend, which comes, goes and changes when it is told to; tests/triton does the same with real servers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json

import httpx
import pytest

from certify.service.backends.fake import FAKE_INFO, FakeBackend
from certify.service.errors import BackendUnavailable, BundleError, SettingsError
from certify.service.http.app import create_app
from certify.service.settings import load_settings
from tests import pictures
from tests.answer_rules import check
from tests.servers import InProcess, in_process, real_process

pytestmark = pytest.mark.anyio

OTHER = dataclasses.replace(
    FAKE_INFO,
    bundle_name="other",
    bundle_digest="sha256:" + "1" * 64,
    sigmas=(0.5, 1.0, 2.0),
    class_names=("cat", "dog"),
)


async def until_ready(service: InProcess, status: int = 200) -> httpx.Response:
    while (reply := await service.client.get("/readyz")).status_code != status:
        await asyncio.sleep(0.02)
    return reply


async def certify(service: InProcess, **fields: object) -> httpx.Response:
    return await service.client.post("/certify", files={"image": pictures.png()}, data=fields)


async def bundles(service: InProcess) -> list[tuple[str, str]]:
    lines = [line for line in (await service.metrics_text()).splitlines() if line.startswith("certify_bundle_info{")]
    return [(line.split('digest="')[1].split('"')[0], line.rsplit(" ", 1)[1]) for line in lines]


async def test_it_listens_at_once_says_why_it_is_not_ready_and_waits() -> None:
    backend = FakeBackend()
    backend.absent = True
    async with in_process(backend, backend="triton") as service:
        await asyncio.sleep(0)  # its first attempt
        assert (await service.client.get("/livez")).status_code == 200
        for path in ("/readyz", "/info"):
            reply = await service.client.get(path)
            assert (reply.status_code, reply.json()["code"]) == (503, "backend_unavailable")
            assert "told to be absent" in reply.json()["detail"] and int(reply.headers["Retry-After"]) >= 1
        reply = await certify(service)
        assert (reply.status_code, reply.json()["code"]) == (503, "backend_unavailable")
        assert int(reply.headers["Retry-After"]) >= 1
        assert await service.metric("certify_ready") == 0 and await bundles(service) == []
        backend.absent = False
        await until_ready(service)
        check((await certify(service)).json())
        assert (await service.client.get("/info")).json()["bundle"]["digest"] == FAKE_INFO.bundle_digest
        assert await service.metric("certify_ready") == 1
        assert await bundles(service) == [(FAKE_INFO.bundle_digest, "1.0")]


async def test_another_bundle_is_adopted_when_the_last_answer_is_out() -> None:
    backend = FakeBackend()
    async with in_process(backend, backend="triton") as service:
        await until_ready(service)
        check((await certify(service)).json())
        counted = await service.total("certify_requests_total")
        backend.delay_seconds = 0.05
        under_way = [asyncio.create_task(certify(service, samples=2_000, alpha=(10 + n) / 1000)) for n in range(8)]
        while not backend.running:
            await asyncio.sleep(0)
        backend.offered = OTHER
        # Nothing new is taken, and what is under way goes on: all of it of the old bundle.
        refused = await certify(service)
        assert (refused.status_code, refused.json()["code"]) == (503, "backend_unavailable")
        assert backend.info() == FAKE_INFO
        for reply in await asyncio.gather(*under_way):
            answer = check(reply.json())
            assert answer["bundle"]["digest"] == FAKE_INFO.bundle_digest
            assert {stage["sigma"] for stage in answer["stages"]} <= set(FAKE_INFO.sigmas)
        await until_ready(service)
        answer = check((await certify(service)).json())
        assert answer["bundle"] == {"name": "other", "digest": OTHER.bundle_digest}
        assert answer["uncertified_label"]["name"] in OTHER.class_names
        assert (await service.client.get("/info")).json()["bundle"]["sigmas"] == list(OTHER.sigmas)
        assert await bundles(service) == [(OTHER.bundle_digest, "1.0")]
        # Old series stay, new ones begin, and no counter has fallen.
        for sigma in ("0.25", "2"):
            await service.metric(f'certify_requests_total{{outcome="certified",sigma="{sigma}"}}')
        assert await service.total("certify_requests_total") == counted + len(under_way) + 1


async def test_clients_that_never_stop_asking_do_not_keep_another_bundle_out() -> None:
    backend = FakeBackend(delay_seconds=0.002)
    async with in_process(backend, backend="triton") as service:
        await until_ready(service)
        digests: list[set[str]] = [set() for _ in range(16)]

        async def ask_on(seen: set[str]) -> None:
            while OTHER.bundle_digest not in seen:
                reply = await certify(service, samples=500)
                if reply.status_code == 200:
                    seen.add(check(reply.json())["bundle"]["digest"])
                else:
                    assert reply.json()["code"] == "backend_unavailable"
                await asyncio.sleep(0)  # nothing in this process waits for a network, so a client must

        clients = [asyncio.create_task(ask_on(seen)) for seen in digests]
        while not all(digests):
            await asyncio.sleep(0.01)
        backend.offered = OTHER
        await asyncio.gather(*clients)


async def test_a_bundle_that_goes_away_again_before_it_is_adopted_is_forgotten() -> None:
    backend = FakeBackend(delay_seconds=0.2)
    async with in_process(backend, backend="triton") as service:
        await until_ready(service)
        under_way = asyncio.create_task(certify(service, samples=500))
        while not backend.running:
            await asyncio.sleep(0)
        backend.offered = OTHER
        await until_ready(service, 503)
        backend.offered = None
        await until_ready(service)
        assert check((await under_way).json())["bundle"]["digest"] == FAKE_INFO.bundle_digest
        assert (await service.client.get("/info")).json()["bundle"]["name"] == "fake"


@pytest.mark.parametrize("error", [BundleError("altered"), BackendUnavailable("no torch")], ids=str)
async def test_a_backend_of_this_process_that_cannot_be_opened_stops_the_start(error: Exception) -> None:
    class Broken(FakeBackend):
        async def open(self) -> None:
            raise error

    app = create_app(load_settings(backend="embedded"), Broken())
    with pytest.raises(SettingsError if isinstance(error, BundleError) else BackendUnavailable, match=str(error)):
        async with app.router.lifespan_context(app):
            raise AssertionError("it started")


@pytest.mark.slow
def test_a_process_that_waited_in_vain_ends_with_an_error(tmp_path) -> None:
    """Nobody listens on port 1. It answers while it waits, and ends by itself."""
    with real_process(tmp_path / "log", backend="triton", triton_url="127.0.0.1:1", start_seconds=3) as process:
        assert httpx.get(f"{process.url}/livez").status_code == 200
        reply = httpx.get(f"{process.url}/readyz")
        assert reply.status_code == 503 and "127.0.0.1:1" in reply.text + httpx.get(f"{process.url}/info").text
        assert process.popen.wait() == 1
    messages = [json.loads(line)["message"] for line in process.log.read_text().splitlines()]
    assert "no backend within 3 seconds: giving up" in messages
