"""Both clients against real `certify serve` processes, and against what may stand in front of one."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from certify import (
    AsyncClient,
    BackendUnavailable,
    CertifyAnswer,
    CertifyError,
    Client,
    DeadlineExceeded,
    Draining,
    QueueFull,
    RequestError,
    Retries,
    Unauthorized,
    __version__,
)
from certify.service.answering.schemas import CertifyFields, Info
from certify.service.client import Fields, read_image
from certify.service.http.problems import CODES
from tests import pictures
from tests.answer_rules import check
from tests.servers import Process, in_process, real_process

QUICK = Retries(attempts=3, first_contact_attempts=2, first_pause=0.01, longest_pause=0.02)
ONCE = Retries(first_pause=3600, longest_pause=3600)  # a second try would outlast the test


def ask(
    kind: str,
    url: str,
    image: bytes | Path,
    *,
    retries: Retries | None = None,
    timeout: float | None = None,
    key: str | None = None,
    **fields: Any,
) -> CertifyAnswer:
    """By either client."""
    if kind == "sync":
        with Client(url, key=key, retries=retries, timeout=timeout) as client:
            return client.certify(image, **fields)

    async def wait() -> CertifyAnswer:
        async with AsyncClient(url, key=key, retries=retries, timeout=timeout) as client:
            return await client.certify(image, **fields)

    return asyncio.run(wait())


def facts(answer: CertifyAnswer) -> dict[str, Any]:
    return answer.model_dump(mode="json", exclude={"id", "timing"})


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with real_process(tmp_path_factory.mktemp("client") / "log") as process:
        yield process


both = pytest.mark.parametrize("kind", ["sync", "async"])


@pytest.mark.slow
def test_both_clients_get_the_same_answer_from_bytes_and_from_a_file(service: Process, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(pictures.png())
    fields = {"samples": 2000, "radius": 0.2, "sigmas": [1.0, 0.5], "resize": True, "norm": "l2", "alpha": None}
    answers = [
        ask(kind, service.url + "/", image, **fields) for kind in ("sync", "async") for image in (path, pictures.png())
    ]
    assert all(facts(answer) == facts(answers[0]) for answer in answers)
    checked = check(answers[0].model_dump(mode="json"))
    assert (checked["requested_radius"], checked["threshold"]) == (0.2, [0.5, 0.5])
    # A form's text says the same.
    assert facts(ask("sync", service.url, path, samples="2000", radius="0.2", sigmas="1,0.5")) == facts(answers[0])


@pytest.mark.slow
def test_both_clients_read_what_a_service_says_of_itself(service: Process) -> None:
    with Client(service.url) as client:
        info = client.info()

    async def wait() -> Info:
        async with AsyncClient(service.url) as client:
            return await client.info()

    assert info == asyncio.run(wait())
    assert info.backend.kind == "fake"


@pytest.mark.slow
def test_a_service_without_pictures_to_show_says_so_at_once(service: Process) -> None:
    with Client(service.url, retries=ONCE) as client, pytest.raises(BackendUnavailable) as refused:
        client.preview(pictures.png(), draws=1)
    assert (refused.value.status, refused.value.code) == (501, "preview_unavailable")


@pytest.mark.slow
@both
def test_what_the_service_refuses_is_a_request_error_with_its_hints(kind: str, service: Process) -> None:
    with pytest.raises(RequestError) as refused:
        ask(kind, service.url, pictures.png(), radius=100)
    assert refused.value.code == "radius_unreachable"
    assert (refused.value.status, refused.value.field) == (422, "radius")
    assert refused.value.hints.keys() == {"max_radius"} and refused.value.hints["max_radius"] > 1  # type: ignore[operator]
    assert refused.value.request_id in service.log.read_text()
    assert str(refused.value.extra["instance"]).endswith(refused.value.request_id)
    with pytest.raises(RequestError, match="epsilon: expected one of"):
        ask(kind, service.url, pictures.png(), epsilon=1)
    with pytest.raises(RequestError) as refused:
        ask(kind, service.url, b"no image")
    assert refused.value.code == "unsupported_format"


@pytest.mark.slow
@both
def test_a_full_service_is_asked_again_after_its_retry_after(kind: str, tmp_path: Path) -> None:
    """One place, and held: the answer comes once it is free, and the pause is the service's, not the client's own."""
    patient = Retries(attempts=100, first_pause=3600, longest_pause=3600)  # its own pauses would outlast the test
    with real_process(tmp_path / "log", max_running=1, max_queued=0, fake_delay_seconds=0.2) as full:
        with ThreadPoolExecutor() as pool:
            first = pool.submit(ask, "sync", full.url, pictures.png(1), samples=640)
            full.wait_for("certify_in_flight", 1)
            second = pool.submit(ask, kind, full.url, pictures.png(2), retries=patient, samples=640)
            assert check(second.result().model_dump(mode="json"))
            assert check(first.result().model_dump(mode="json"))
        assert full.metric('certify_errors_total{code="queue_full"}') >= 1


@pytest.mark.slow
@both
def test_a_service_that_stays_full_is_an_error_after_the_last_try(kind: str, tmp_path: Path) -> None:
    with real_process(
        tmp_path / "log", max_running=1, max_queued=0, fake_delay_seconds=3600, grace_seconds=0.1
    ) as full:
        with ThreadPoolExecutor() as pool:
            held = pool.submit(ask, "sync", full.url, pictures.png(1), retries=QUICK)
            full.wait_for("certify_in_flight", 1)
            with pytest.raises(QueueFull, match="expected at most 1 requests at once") as refused:
                ask(kind, full.url, pictures.png(2), retries=Retries(attempts=2, longest_retry_after=0.01))
            assert refused.value.retry_after_seconds >= 1
            assert full.metric('certify_errors_total{code="queue_full"}') == 2
            full.popen.send_signal(signal.SIGTERM)
            with pytest.raises((Draining, BackendUnavailable)):  # refused, or gone before it was told so
                held.result()


@both
def test_an_address_where_nothing_listens_is_an_error_in_words(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(
        BackendUnavailable, match=f"http://127.0.0.1:{port}: cannot be asked: ConnectError.*tried 2 times"
    ):
        ask(kind, f"http://127.0.0.1:{port}", pictures.png(), retries=QUICK)


@both
@pytest.mark.parametrize("url", ["nowhere", "ftp://127.0.0.1", "http://127.0.0.1:x"])
def test_an_address_that_is_none_is_an_error_at_once(kind: str, url: str) -> None:
    with pytest.raises(BackendUnavailable, match="cannot be asked"):
        ask(kind, url, pictures.png(), retries=ONCE)


class Page(BaseHTTPRequestHandler):
    """Answers by the script of its server: (status, headers, body), the last one for ever."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(self.headers["Content-Length"])  # type: ignore[attr-defined]
        self.server.headers = self.headers  # type: ignore[attr-defined]
        script = self.server.script  # type: ignore[attr-defined]
        status, headers, body = script.pop(0) if len(script) > 1 else script[0]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing on stderr."""


@contextmanager
def standing_in(*script: tuple[int, dict[str, str], bytes]) -> Iterator[ThreadingHTTPServer]:
    """A real HTTP server that is no certify service: a balancer, somebody else's site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.script, server.bodies = list(script), []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@both
@pytest.mark.parametrize("status", [200, 302, 404, 500, 501])
def test_something_that_is_no_certify_service_is_told_apart(kind: str, status: int) -> None:
    with standing_in((status, {}, b"<html>hello</html>")) as server:
        with pytest.raises(BackendUnavailable, match="expected the answer of a certify service"):
            ask(kind, f"http://127.0.0.1:{server.server_port}", pictures.png(), retries=ONCE)
        assert len(server.bodies) == 1  # type: ignore[attr-defined]


@both
@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_a_balancer_says_of_itself_is_tried_again_and_its_date_is_no_number(kind: str, status: int) -> None:
    away = (status, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"<html>no endpoints</html>")
    with standing_in(away) as server:
        with pytest.raises(BackendUnavailable, match=f"answered {status}, tried 3 times"):
            ask(kind, f"http://127.0.0.1:{server.server_port}", pictures.png(), retries=QUICK)
        bodies = server.bodies  # type: ignore[attr-defined]
        assert len(bodies) == 3 and len(set(bodies)) == 1  # the same request, whole, each time


@both
def test_a_request_says_who_asks_and_for_what(kind: str) -> None:
    with standing_in((404, {}, b"")) as server:
        with pytest.raises(BackendUnavailable):
            ask(kind, f"http://127.0.0.1:{server.server_port}", pictures.png(), key="secret")
        headers = server.headers  # type: ignore[attr-defined]
        assert (headers["Authorization"], headers["Accept"]) == ("Bearer secret", "application/json")
        assert headers["User-Agent"] == f"certify/{__version__}"


class Balancer(httpx.AsyncBaseTransport):
    """Behind one address: the first call reaches the first replica, the second the second."""

    def __init__(self, *replicas: httpx.AsyncBaseTransport) -> None:
        self.replicas, self.calls = replicas, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        return await self.replicas[min(self.calls, len(self.replicas)) - 1].handle_async_request(request)


@pytest.mark.anyio
async def test_a_replica_that_shuts_down_is_asked_again_until_another_answers() -> None:
    async with in_process() as leaving, in_process() as staying:
        leaving.gateway.admission.drain()
        balancer = Balancer(leaving.client._transport, staying.client._transport)
        async with AsyncClient("http://certify", retries=QUICK, transport=balancer) as client:
            answer = await client.certify(pictures.png(), samples=640)
            assert balancer.calls == 2
            assert answer.outcome == "certified"


@pytest.mark.anyio
async def test_what_the_service_says_becomes_the_error_of_that_name() -> None:
    async with in_process() as service:
        async with AsyncClient("http://certify", retries=QUICK, transport=service.client._transport) as client:
            service.gateway.admission.drain()
            with pytest.raises(Draining, match="shutting down"):
                await client.certify(pictures.png())
        service.gateway.admission._draining = False
        async with AsyncClient("http://certify", retries=QUICK, transport=service.client._transport) as client:
            service.backend.failing = True
            with pytest.raises(BackendUnavailable, match="backend_unavailable: .*urn:uuid:"):
                await client.certify(pictures.png())
            assert service.backend.calls == 3  # it passes, as a rule
            service.backend.failing = False
            service.backend.delay_seconds = 3600
            with pytest.raises(DeadlineExceeded):
                await client.certify(pictures.png(), deadline_ms=20)


@both
@pytest.mark.parametrize("code", CODES)
def test_every_problem_of_the_service_is_an_error_of_ours(kind: str, code: str) -> None:
    status = CODES[code].status
    document = (
        f'{{"type": "urn:certify:problem:{code}", "title": "t", "status": {status}, "detail": "d", '
        f'"instance": "urn:uuid:1", "code": "{code}", "hint": 3}}'
    ).encode()
    with standing_in((status, {}, document)) as server, pytest.raises(CertifyError) as raised:
        ask(kind, f"http://127.0.0.1:{server.server_port}", pictures.png(), retries=QUICK)
    error = raised.value
    assert (status < 500 and status not in (401, 429)) == isinstance(error, RequestError)
    assert (status == 401) == isinstance(error, Unauthorized)
    assert (error.code, error.status, dict(error.hints), error.request_id) == (code, status, {"hint": 3}, "1")
    if isinstance(error, RequestError):
        assert (error.detail, error.extra["hint"]) == ("d", 3)


def test_pauses_grow_to_a_bound_and_the_services_own_go_first() -> None:
    retries = Retries()
    own = [retries.pause(attempt, None) for attempt in range(1, retries.attempts)]
    assert own[:4] == [0.5, 1.0, 2.0, 4.0] and own == sorted(own) and max(own) == retries.longest_pause
    assert retries.pause(1, 7.0) == 7.0
    assert retries.pause(1, 10_000.0) == retries.longest_retry_after


@both
def test_a_file_or_a_field_that_cannot_be_sent_is_refused_here(kind: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="image: cannot be read"):
        ask(kind, "http://127.0.0.1:9", tmp_path / "absent.png")
    with pytest.raises(RequestError, match="image: cannot be read"):
        read_image(tmp_path)
    with pytest.raises(RequestError, match="radius: expected text, a number"):
        ask(kind, "http://127.0.0.1:9", b"", radius=object())
    with pytest.raises(RequestError, match=r"signed: .*Client.certificate\(\)"):
        ask(kind, "http://127.0.0.1:9", b"", signed=True)
    with pytest.raises(TypeError, match="image: expected a path, bytes, an array or a PIL image, got NoneType"):
        ask(kind, "http://127.0.0.1:9", None)  # type: ignore[arg-type]


@pytest.mark.slow
@both
def test_a_timeout_ends_all_tries_together(kind: str, tmp_path: Path) -> None:
    with real_process(tmp_path / "log", fake_delay_seconds=3600, grace_seconds=0.1) as slow:
        with pytest.raises(DeadlineExceeded, match=r"no answer within the client's timeout of 0\.3 s"):
            ask(kind, slow.url, pictures.png(), timeout=0.3)
        slow.wait_for("certify_in_flight", 0)  # whoever gives up has left
    away = (503, {"Retry-After": "60"}, b"")
    with standing_in(away) as server:
        with pytest.raises(DeadlineExceeded) as late:
            ask(kind, f"http://127.0.0.1:{server.server_port}", pictures.png(), timeout=30)
        assert isinstance(late.value.__cause__, BackendUnavailable)  # it does not wait for what comes too late
        assert len(server.bodies) == 1  # type: ignore[attr-defined]


def test_the_fields_that_are_typed_are_those_of_a_request() -> None:
    assert Fields.__annotations__.keys() == CertifyFields.model_fields.keys() - {"signed"}
