"""Who may ask, and for how much: keys, budgets, places and turns, over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from certify import Client
from certify.service.backends.fake import FAKE_INFO, FakeBackend
from certify.service.errors import SettingsError, Unauthorized
from tests import pictures
from tests.servers import InProcess, in_process, metric, real_process

pytestmark = pytest.mark.anyio


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """camera has key k1 and 20,000 samples a minute, batch has k2 and a million; two and six places."""
    lines = [("camera", "k1", 20_000, 2), ("batch", "k2", 1_000_000, 6)]
    path = tmp_path / "keys"
    path.write_text(
        "".join(f"{n} {hashlib.sha256(k.encode()).hexdigest()} {samples} {places}\n" for n, k, samples, places in lines)
    )
    return path


async def ask(service: InProcess, key: str | None, seed: int = 0, **fields: str) -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    files = {"image": ("a.png", pictures.png(seed))}
    return await service.client.post("/certify", files=files, data=fields, headers=headers)


async def test_only_whoever_has_a_key_is_answered_and_probes_need_none(keys: Path) -> None:
    async with in_process(api_keys_file=str(keys)) as service:
        for key in (None, "k3"):
            refused = await ask(service, key)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert service.backend.calls == 0
        assert (await ask(service, "k1")).status_code == 200
        for path in ("/livez", "/readyz", "/metrics", "/info"):
            assert (await service.client.get(path)).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["certify", "v1/certify", "v1/certify/batch", "v1/preview", "v2/models/certify/infer"],
)
@pytest.mark.parametrize("query", ["", "?a=1"])
async def test_who_asks_is_the_first_question(keys: Path, path: str, query: str) -> None:
    """Nobody without a key learns what else is wrong, or whether anything is served."""
    async with in_process(api_keys_file=str(keys)) as service:
        assert (await service.client.post(f"/{path}{query}")).status_code == 401
        service.backend.offered = replace(FAKE_INFO, bundle_name="another")
        assert (await service.client.post(f"/{path}{query}")).status_code == 401


async def test_a_client_that_the_file_names_later_has_a_series_before_it_asks(keys: Path) -> None:
    async with in_process(api_keys_file=str(keys)) as service:
        keys.write_text(keys.read_text().replace("batch", "later"))
        while 'client="later"' not in (text := await service.metrics_text()):
            await asyncio.sleep(0.05)
        assert metric(text, 'certify_client_samples_total{client="later"}') == 0


async def test_a_refused_key_costs_nothing_of_the_body(keys: Path) -> None:
    async with in_process(api_keys_file=str(keys)) as service:
        response = await service.client.post("/certify", content=b"{", headers={"Content-Type": "application/json"})
        assert response.status_code == 401


async def test_metrics_and_log_carry_the_clients_name_and_no_key(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with in_process(api_keys_file=str(keys)) as service:
        with caplog.at_level(logging.DEBUG):
            answer = (await ask(service, "k1", samples="2000")).json()
        assert await service.metric('certify_client_samples_total{client="camera"}') == answer["samples_used"]
        assert await service.metric('certify_client_samples_total{client="batch"}') == 0
        (facts,) = [r.facts for r in caplog.records if r.getMessage() == "request"]  # type: ignore[attr-defined]
        assert facts["client"] == "camera" and "k1" not in json.dumps(facts)


async def test_a_budget_is_spent_by_what_was_drawn_and_then_refuses(keys: Path) -> None:
    async with in_process(api_keys_file=str(keys)) as service:
        used = 0
        for seed in range(50):
            response = await ask(service, "k1", seed, samples="8000", radius="0.05")
            if response.status_code != 200:
                break
            used += response.json()["samples_used"]
        assert response.status_code == 429 and response.json()["code"] == "budget_spent"
        assert 1 <= int(response.headers["Retry-After"]) <= 60
        # 8,000 were reserved each time; what was not drawn came back, or three requests would have spent it all.
        assert seed > 3 and 12_000 < used <= 20_000
        assert (await ask(service, "k2", samples="8000")).status_code == 200


async def test_an_image_that_is_refused_spends_nothing(keys: Path) -> None:
    async with in_process(api_keys_file=str(keys)) as service:
        for _ in range(10):
            files = {"image": ("a.png", b"no image")}
            headers = {"Authorization": "Bearer k1"}
            response = await service.client.post("/certify", files=files, data={"samples": "15000"}, headers=headers)
            assert response.status_code == 415
        assert (await ask(service, "k1", samples="15000")).status_code == 200


async def test_a_small_request_is_answered_while_another_clients_hundred_thousands_go_on(keys: Path) -> None:
    backend = FakeBackend(delay_seconds=0.005)
    async with in_process(backend, api_keys_file=str(keys), max_running=2) as service:
        heavy = [asyncio.create_task(ask(service, "k2", seed, samples="100000", alpha="0.00001")) for seed in range(6)]
        while backend.calls < 20:
            await asyncio.sleep(0.001)
        before = backend.calls
        small = await ask(service, "k1", samples="4000")
        assert small.status_code == 200
        # It had every second turn at least, so the others had few beside its own; each of theirs takes fifty.
        assert backend.calls - before < 40
        assert not all(task.done() for task in heavy)
        await asyncio.gather(*heavy)


async def test_a_client_that_fills_its_places_leaves_the_others_theirs(keys: Path) -> None:
    backend = FakeBackend(delay_seconds=3600)
    async with in_process(backend, api_keys_file=str(keys)) as service:
        waiting = [asyncio.create_task(ask(service, "k1", seed, samples="2000")) for seed in range(2)]
        while backend.running < 2:
            await asyncio.sleep(0.001)
        third = await ask(service, "k1", 2, samples="2000")
        assert (third.status_code, third.json()["code"]) == (429, "queue_full")
        backend.delay_seconds = 0.0
        assert (await ask(service, "k2", samples="2000")).status_code == 200
        service.gateway.admission.abort()
        await asyncio.gather(*waiting)


@pytest.mark.slow
def test_our_client_sends_its_key(keys: Path, tmp_path: Path) -> None:
    with real_process(tmp_path / "log", api_keys_file=keys) as service:
        with Client(service.url, key="k1") as client:
            assert client.certify(pictures.png(), samples=2000).samples_used <= 2000
        with Client(service.url) as client, pytest.raises(Unauthorized) as refused:
            client.certify(pictures.png())
        assert refused.value.code == "unauthorized"
        (tmp_path / "key").write_text("k1\n")
        (tmp_path / "digit.png").write_bytes(pictures.png())
        command = [sys.executable, "-m", "certify", "image", str(tmp_path / "digit.png"), "--samples=2000"]
        with_key = subprocess.run([*command, f"--url={service.url}", f"--key-file={tmp_path / 'key'}"], check=False)
        without = subprocess.run([*command, f"--url={service.url}"], check=False)
        assert (with_key.returncode, without.returncode) == (0, 1)


@pytest.mark.parametrize("flags", [{"api_keys_file": "/nowhere/keys"}, {"budget_storage": "postgres://x"}], ids=str)
async def test_a_wrong_setting_stops_the_start_and_names_its_key(flags: dict[str, str]) -> None:
    (name,) = flags
    with pytest.raises(SettingsError, match=f"CERTIFY_{name.upper()}"):
        async with in_process(**flags):
            raise AssertionError("it started")
