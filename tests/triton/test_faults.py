"""What happens to the gateway when a real server dies, hangs, loses its model, changes its bundle, or is full."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

pytest.importorskip("torch", reason="the mdds model needs torch (pip install 'certify[torch]')")

from tritonclient.grpc import InferenceServerClient

from certify.models.bundle import find_bundle, load_manifest, save_manifest
from certify.models.export import export
from certify.service.backends.triton import TritonBackend
from certify.service.errors import BackendUnavailable
from tests.answer_rules import check
from tests.servers import real_gateway
from tests.triton.conftest import executed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LONG = {"samples": 100_000}  # some twenty seconds: faults come in the middle of it


def post(gateway, image: bytes, **fields: object) -> httpx.Response:
    return httpx.post(f"{gateway.url}/certify", files={"image": image}, data=fields, timeout=300)


def same(reply: httpx.Response) -> dict:
    assert reply.status_code == 200, reply.text
    return {name: value for name, value in check(reply.json()).items() if name not in ("id", "timing")}


def wait_until_sampling(server) -> None:
    before = executed(server)
    while executed(server) < before + 4:
        time.sleep(0.02)


def readyz(gateway) -> int:
    # A probe may wait for a stub that the server has yet to find dead.
    return httpx.get(f"{gateway.url}/readyz", timeout=60).status_code


@pytest.fixture(scope="module")
def server(make_server):
    return make_server(arguments=("--model-control-mode", "explicit", "--load-model", "mdds"))


@pytest.fixture
def gateway(server, tmp_path):
    with real_gateway(tmp_path / "log", server.url, max_running=16) as process:
        yield process


def problem(reply: httpx.Response, status: int, code: str) -> dict:
    assert (reply.status_code, reply.json()["code"]) == (status, code), reply.text
    return reply.json()


def test_a_killed_server_is_503_and_a_restarted_one_answers_without_touching_the_gateway(gateway, server, digit):
    before = same(post(gateway, digit, samples=2_000))
    with ThreadPoolExecutor(1) as other:
        running = other.submit(post, gateway, digit, **LONG)
        wait_until_sampling(server)
        server.kill()
        problem(running.result(), 503, "backend_unavailable")
    assert readyz(gateway) == 503
    problem(post(gateway, digit, samples=2_000), 503, "backend_unavailable")
    server.start()
    gateway.wait_ready()
    assert same(post(gateway, digit, samples=2_000)) == before


def test_a_paused_server_keeps_no_one_past_the_deadline(gateway, server, digit):
    """Paused in the middle: what had been proved by then. Paused from the start: 504.

    The server alone: when its stubs sleep too, tritonserver 2.51 takes them for dead as it wakes, and may crash.
    """
    with ThreadPoolExecutor(1) as other:
        running = other.submit(post, gateway, digit, **LONG, deadline_ms=8_000)
        wait_until_sampling(server)
        time.sleep(2)  # some looks are complete by then; whether they are changes the answer, not the verdict
        os.kill(server.pid, signal.SIGSTOP)
        try:
            reply = running.result()
            nothing = post(gateway, digit, samples=2_000, alpha=0.002, deadline_ms=1_000)
        finally:
            os.kill(server.pid, signal.SIGCONT)
    if reply.status_code == 200:
        answer = check(reply.json())
        assert answer["timing"]["total_seconds"] < 60  # not the server's resumption, nor call_seconds
        assert answer["samples_used"] < 100_000
        assert answer["outcome"] == "certified" or answer["abstain_reason"] is not None
    else:
        problem(reply, 504, "deadline_exceeded")
    problem(nothing, 504, "deadline_exceeded")
    gateway.wait_ready()


def test_a_killed_stub_loses_no_vote_and_counts_none_twice(gateway, server, digit):
    undisturbed = same(post(gateway, digit, samples=5_000))
    with ThreadPoolExecutor(1) as other:
        running = other.submit(post, gateway, digit, samples=5_000)
        wait_until_sampling(server)
        os.kill(server.stub_pids()[0], signal.SIGKILL)
        reply = running.result()
    if reply.status_code == 200:
        assert same(reply) == undisturbed
    else:
        problem(reply, 503, "backend_unavailable")
    # Whether or not the server brings the stub back by itself, the gateway is well as soon as the server is.
    if readyz(gateway) != 200:
        server.stop()
        server.start()
        gateway.wait_ready()
    assert same(post(gateway, digit, samples=5_000)) == undisturbed


def test_an_unloaded_model_is_503_until_it_is_loaded_again(gateway, server, digit):
    control = InferenceServerClient(server.url)
    control.unload_model("mdds")
    problem(post(gateway, digit, samples=2_000), 503, "backend_unavailable")
    assert readyz(gateway) == 503
    control.load_model("mdds")
    control.close()
    gateway.wait_ready()
    same(post(gateway, digit, samples=2_000))


def test_a_client_that_leaves_stops_the_sampling(gateway, server, digit):
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{gateway.url}/certify", files={"image": digit}, data=LONG, timeout=2)
    gateway.wait_for("certify_in_flight", 0)
    post(gateway, digit, samples=500)  # behind whatever the server was still at
    settled = executed(server)
    time.sleep(1)
    assert executed(server) == settled


def other_bundle(folder):
    """Digits with another threshold: another cascade, so another digest."""
    shutil.copytree(find_bundle("digits"), folder / "bundle")
    manifest = load_manifest(folder / "bundle")
    changed = dataclasses.replace(manifest, thresholds=(0.5, 0.5, 0.75))
    save_manifest(changed, folder / "bundle")
    export(folder / "bundle", folder / "repository", instances=1)
    return folder / "repository", changed.digest


@pytest.mark.anyio
async def test_a_replica_with_another_bundle_is_refused(make_server, server, digit, tmp_path):
    repository, digest = other_bundle(tmp_path)
    stranger = make_server(repository)
    backend = TritonBackend([server.url, stranger.url], call_seconds=60)
    with pytest.raises(BackendUnavailable, match=f"{stranger.url} runs another bundle.*{digest}"):
        await backend.open()
    # And one that takes a known replica's place later: its votes are refused by itself, for what it was asked to be.
    backend = TritonBackend([stranger.url], call_seconds=60, watch_seconds=3600)
    await backend.open()
    info = backend.info()
    grey = np.full(info.input_shape, 0.2, dtype=np.float32)
    stranger.stop()
    stranger.repository = server.repository
    stranger.start()
    with pytest.raises(BackendUnavailable, match="identity: this replica runs"):
        await backend.count_votes(grey, sigma=info.sigmas[0], seed=0, first=0, count=info.chunk)
    await backend.close()
    stranger.stop()


def test_a_full_queue_is_429_and_says_when_to_come_again(make_server, digit, tmp_path):
    # One instance and two places: a request alone has two calls for votes and one for the plain answer on their way.
    export(find_bundle("digits"), tmp_path / "repository", instances=1)
    config = tmp_path / "repository" / "mdds" / "config.pbtxt"
    text = config.read_text()
    assert "max_queue_size: 256" in text and "max_batch_size: 64" in text
    text = text.replace("max_queue_size: 256", "max_queue_size: 2")
    config.write_text(text.replace("max_batch_size: 64", "max_batch_size: 1"))
    small = make_server(tmp_path / "repository")
    with real_gateway(tmp_path / "log", small.url, max_running=32) as gateway:
        with ThreadPoolExecutor(24) as crowd:
            replies = [crowd.submit(post, gateway, digit, samples=2_000, alpha=(10 + n) / 1e4) for n in range(24)]
            outcomes = [reply.result() for reply in replies]
        refused = [reply for reply in outcomes if reply.status_code == 429]
        assert refused  # on busy cores it may be all of them
        for reply in refused:
            assert reply.json()["code"] == "queue_full" and int(reply.headers["retry-after"]) >= 1
        for reply in outcomes:
            if reply.status_code == 200:
                check(reply.json())
        assert {reply.status_code for reply in outcomes} <= {200, 429}
        assert readyz(gateway) == 200
        assert same(post(gateway, digit, samples=2_000))["outcome"] == "certified"
    small.stop()
