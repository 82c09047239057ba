"""What only a real `certify serve` process shows: sockets, signals, memory."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import pictures
from tests.answer_rules import check
from tests.servers import Process, real_process

# Waiting has no clock of its own here: a test that waits in vain is ended after two minutes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MEGABYTE = 10**6


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with real_process(tmp_path_factory.mktemp("serve") / "log") as process:
        yield process


def post(process: Process, seed: int = 0, **fields: Any) -> httpx.Response:
    files = {"image": ("a.png", pictures.png(seed))}
    return httpx.post(f"{process.url}/certify", files=files, data=fields, timeout=None)


def assert_well(process: Process) -> None:
    """A good request still works and nobody is counted who is not there."""
    response = post(process, samples="1000")
    assert response.status_code == 200
    check(response.json())
    process.wait_for("certify_in_flight", 0)
    process.wait_for("certify_queue_depth", 0)


@contextlib.contextmanager
def half_sent(process: Process, request: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", process.port)) as connection:
        connection.sendall(request)
        yield connection


def whole_request(seed: int = 0) -> bytes:
    files = {"image": ("a.png", pictures.png(seed))}
    request = httpx.Request("POST", "http://127.0.0.1/certify", files=files)
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST /certify HTTP/1.1\r\n{head}\r\n".encode() + request.read()


def answer_on(connection: socket.socket) -> tuple[int, str]:
    """Status and code of the problem that comes."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())["code"]


def test_it_certifies_and_answers_probes_docs_and_metrics(service: Process) -> None:
    assert_well(service)
    for path in ("/livez", "/readyz", "/metrics", "/info", "/docs", "/openapi.json"):
        assert httpx.get(service.url + path).status_code == 200, path


def test_the_same_request_beside_sixteen_others_gets_the_same_answer(service: Process) -> None:
    def facts(seed: int) -> dict[str, Any]:
        answer = check(post(service, seed, samples="5000").json())
        return {name: value for name, value in answer.items() if name not in ("id", "timing")}

    alone = facts(0)
    with concurrent.futures.ThreadPoolExecutor(17) as threads:
        beside = list(threads.map(facts, range(17)))
    assert beside[0] == alone


def test_a_body_of_100_mb_is_refused_by_its_declared_length(service: Process) -> None:
    request = (
        b"POST /certify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n"
    )
    with half_sent(service, request) as connection:
        assert answer_on(connection) == (413, "body_too_large")
    assert_well(service)


def test_a_body_of_100_mb_in_chunks_is_refused_and_not_kept(service: Process) -> None:
    peak = memory(service)
    for _ in range(3):
        response = httpx.post(
            f"{service.url}/certify",
            content=(b"x" * MEGABYTE for _ in range(100)),
            headers={"Content-Type": "application/json"},
            timeout=None,
        )
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    # One body up to the limit (10 MiB) may be held while it arrives, never the 100 MB.
    assert memory(service) - peak < 50 * MEGABYTE
    assert_well(service)


def test_a_connection_can_be_used_again_after_a_body_that_was_too_large(service: Process) -> None:
    with httpx.Client(base_url=service.url, timeout=None) as client:
        for _ in range(2):
            headers = {"Content-Type": "application/json"}
            assert client.post("/certify", content=b"x" * 12 * MEGABYTE, headers=headers).status_code == 413
            assert client.post("/certify", files={"image": ("a.png", pictures.png())}).status_code == 200


def test_memory_does_not_grow_with_samples(service: Process) -> None:
    check(post(service, samples="1000").json())
    small = memory(service)
    for seed in range(3):
        assert check(post(service, seed, samples="100000").json())["samples_used"] > 1000
    assert memory(service) - small < 20 * MEGABYTE


def test_garbage_on_the_socket_is_no_harm(service: Process) -> None:
    for garbage in (
        b"\x00\xff" * 100,
        b"POST /certify HTTP/9.9\r\n\r\n",
        b"POST /certify HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ):
        with half_sent(service, garbage) as connection:
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1000)
    assert_well(service)


def test_a_client_that_leaves_while_sending_gives_its_place_back(service: Process) -> None:
    before = service.metric("certify_disconnects_total")
    with half_sent(service, whole_request()[:-50]):
        service.wait_for("certify_arriving", 1)
        assert service.metric("certify_queue_depth") == 0
    service.wait_for("certify_disconnects_total", before + 1)
    assert_well(service)


def test_a_client_that_leaves_stops_its_sampling_and_its_waiting(tmp_path: Path) -> None:
    with real_process(tmp_path / "log", fake_delay_seconds=3600, max_running=1) as slow:
        with half_sent(slow, whole_request(1)) as first:
            slow.wait_for("certify_in_flight", 1)
            with half_sent(slow, whole_request(2)):
                slow.wait_for("certify_queue_depth", 1)
            slow.wait_for("certify_queue_depth", 0)
            slow.wait_for("certify_disconnects_total", 1)
            assert slow.metric("certify_in_flight") == 1
            first.close()
        slow.wait_for("certify_in_flight", 0)
        slow.wait_for("certify_disconnects_total", 2)
        # A third client finds the only turn free again.
        with half_sent(slow, whole_request(3)):
            slow.wait_for("certify_in_flight", 1)


def test_clients_that_leave_at_any_moment_leave_nothing_behind(tmp_path: Path) -> None:
    rng = random.Random(0)
    moments = [(rng.random(), rng.random() * 0.1) for _ in range(80)]

    def leave(moment: tuple[float, float]) -> None:
        share, seconds = moment
        request = whole_request()
        with half_sent(slow, request[: int(len(request) * min(1.0, share * 2))]):
            time.sleep(seconds)

    with real_process(tmp_path / "log", fake_delay_seconds=0.02, max_running=2, max_queued=8) as slow:
        with concurrent.futures.ThreadPoolExecutor(12) as threads:
            list(threads.map(leave, moments))
        assert_well(slow)
        assert not [entry for entry in slow.log_entries() if entry["level"] == "error"]


def test_a_body_that_never_ends_gives_its_place_back(tmp_path: Path) -> None:
    with real_process(tmp_path / "log", body_seconds=0.2) as impatient:
        with half_sent(impatient, whole_request()[:-50]) as connection:
            assert answer_on(connection) == (400, "malformed_body")
        assert_well(impatient)


def test_sigterm_finishes_what_was_accepted_refuses_the_rest_and_ends_well(tmp_path: Path) -> None:
    clients = 32
    with real_process(tmp_path / "log", fake_delay_seconds=0.2, max_running=8) as service:
        with concurrent.futures.ThreadPoolExecutor(clients) as threads:
            accepted = [threads.submit(post, service, seed, samples="500") for seed in range(clients)]
            while service.metric("certify_queue_depth") + service.metric("certify_in_flight") < clients:
                time.sleep(0.01)
            service.popen.send_signal(signal.SIGTERM)
            while (ready := httpx.get(f"{service.url}/readyz")).status_code == 200:
                time.sleep(0.01)
            assert ready.json()["code"] == "draining"
            late = post(service)
            assert (late.status_code, late.json()["code"]) == (503, "draining")
            assert httpx.get(f"{service.url}/livez").status_code == 200
            for future in accepted:
                assert future.result().status_code == 200
                check(future.result().json())
        assert service.popen.wait() == 0


def test_grace_is_the_end_even_for_a_request_that_would_never_end(tmp_path: Path) -> None:
    with real_process(tmp_path / "log", fake_delay_seconds=3600, grace_seconds=0.5) as service:
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            hopeless = threads.submit(post, service)
            service.wait_for("certify_in_flight", 1)
            with half_sent(service, whole_request()[:-50]) as sending:
                service.wait_for("certify_arriving", 1)
                service.popen.send_signal(signal.SIGTERM)
                assert (hopeless.result().status_code, hopeless.result().json()["code"]) == (503, "draining")
                assert answer_on(sending) == (503, "draining")
                assert service.popen.wait() == 0


def test_without_keys_an_address_that_a_trusted_proxy_names_is_a_client(tmp_path: Path) -> None:
    def ask(address: str) -> httpx.Response:
        files, headers = {"image": ("a.png", pictures.png())}, {"X-Forwarded-For": address}
        return httpx.post(f"{service.url}/certify", files=files, headers=headers, timeout=None)

    with real_process(tmp_path / "log", fake_delay_seconds=0.5, max_running=1, max_queued=1) as service:
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            held = [threads.submit(ask, "192.0.2.1") for _ in range(2)]
            while service.metric("certify_queue_depth") + service.metric("certify_in_flight") < 2:
                time.sleep(0.01)
            assert ask("192.0.2.1").status_code == 429
            assert ask("192.0.2.2").status_code == 200
            assert [future.result().status_code for future in held] == [200, 200]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once_and_tells_whoever_waits(tmp_path: Path, number: signal.Signals) -> None:
    with real_process(tmp_path / "log", fake_delay_seconds=3600, grace_seconds=3600) as service:
        with half_sent(service, whole_request(1)) as sampling, half_sent(service, whole_request(2)[:-50]) as sending:
            service.wait_for("certify_in_flight", 1)
            service.wait_for("certify_arriving", 1)
            service.popen.send_signal(number)
            while httpx.get(f"{service.url}/readyz").status_code == 200:
                time.sleep(0.01)
            service.popen.send_signal(number)
            assert answer_on(sampling) == answer_on(sending) == (503, "draining")
            assert service.popen.wait() == 0
        assert not [entry for entry in service.log_entries() if entry["level"] == "error"]


def test_the_log_is_json_with_ids_and_no_image_or_key(tmp_path: Path) -> None:
    with real_process(tmp_path / "log", log_level="debug") as service:
        answer = post(service, samples="1000").json()
        post(service, epsilon="1")
        httpx.get(f"{service.url}/nowhere\r\n".strip())
    entries = [entry for entry in service.log_entries() if entry["message"] == "request"]
    (answered,) = [entry for entry in entries if entry["status"] == 200]
    assert answered["request_id"] == answer["id"]
    assert answered["outcome"] == answer["outcome"]
    assert {(entry["status"], entry["code"]) for entry in entries} >= {(422, "unknown_field"), (404, "not_found")}
    text = service.log.read_text()
    assert "a key for tests" not in text
    assert "IHDR" not in text


def memory(process: Process) -> int:
    """Peak resident memory of the process so far, in bytes."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def test_on_two_colons_it_listens_to_both_families(tmp_path: Path) -> None:
    with real_process(tmp_path / "log", http_host="::") as process:
        for host in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{host}:{process.port}/livez").status_code == 200


def test_on_two_colons_it_listens_to_ipv4_where_there_is_no_ipv6(tmp_path: Path) -> None:
    without = 'sysctl -q net.ipv6.conf.all.disable_ipv6=1 && ip link set lo up && exec "$@"'
    prefix = ("unshare", "--net", "sh", "-c", without, "sh")
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"no network namespace can be had here: {exc}")
    with real_process(tmp_path / "log", prefix=prefix, http_host="::") as process:
        listening = Path(f"/proc/{process.popen.pid}/net/tcp").read_text()
    assert f" 00000000:{process.port:04X} " in listening
