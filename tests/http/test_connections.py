"""Connections that ask nothing, ask slowly, or ask in crumbs: on real sockets, of a real process."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from certify.service.http.connection_limits import most_connections
from tests import pictures
from tests.http.connecting import connections, ended, everything, whole_request
from tests.servers import ROOT, Process, real_process


def post(process: Process) -> httpx.Response:
    return httpx.post(f"{process.url}/certify", files={"image": ("a.png", pictures.png())}, timeout=60)


HEAD = b"POST /certify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
FEW_FILES = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"]


@pytest.mark.parametrize("request_", [b"", HEAD, HEAD + b"\r\n", HEAD + b"\r\n{"], ids=["", "head", "body", "byte"])
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_with_few_file_descriptors_many_waiting_connections_stop_no_probe(tmp_path: Path, request_: bytes) -> None:
    with real_process(tmp_path / "log", prefix=FEW_FILES) as service, connections(service, 300, request_):
        assert httpx.get(f"{service.url}/livez", timeout=60).status_code == 200
        assert httpx.get(f"{service.url}/readyz", timeout=60).status_code == 200
        assert post(service).status_code == 200
        assert not [entry for entry in service.log_entries() if entry["level"] == "error"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_more_silent_bodies_than_places_stop_nobody(tmp_path: Path) -> None:
    with (
        real_process(tmp_path / "log", max_running=1, max_queued=0) as service,
        connections(service, 80, HEAD + b"\r\n") as silent,
    ):
        service.wait_for("certify_arriving", 80)
        assert post(service).status_code == 200
        assert service.metric("certify_arriving") == 80
        del silent


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_connection_that_is_silent_longest_makes_room(tmp_path: Path) -> None:
    with real_process(tmp_path / "log", max_connections=3) as service:
        with connections(service, 2, HEAD) as (first, second):
            first.sendall(b"X: y\r\n")
            assert httpx.get(f"{service.url}/livez").status_code == 200
            with connections(service, 2, HEAD):
                assert ended(second)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_request_that_is_worked_on_is_never_closed_for_another(tmp_path: Path) -> None:
    with real_process(tmp_path / "log", fake_delay_seconds=1, max_connections=2) as service:
        with connections(service, 1, whole_request()) as (working,):
            service.wait_for("certify_in_flight", 1)
            with connections(service, 20):
                assert working.recv(1000).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_clients_that_leave_are_counted_and_keep_no_place(tmp_path: Path) -> None:
    """Most have gone before their request begins."""
    with real_process(tmp_path / "log", fake_delay_seconds=2) as service:
        with connections(service, 100, whole_request()):
            pass
        service.wait_for("certify_disconnects_total", 100)
        service.wait_for("certify_queue_depth", 0)
        service.wait_for("certify_in_flight", 0)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("query", "status"), [(b"", 401), (b"?a=1", 422)])
def test_refusals_that_are_held_back_stop_no_probe(tmp_path: Path, query: bytes, status: int) -> None:
    """Each connection has a few of them, one after another."""
    (tmp_path / "keys").write_text(f"somebody {'0' * 64} 1000 1\n")
    keys = {"api_keys_file": tmp_path / "keys"} if status == 401 else {}
    refused = b"POST /certify%s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % query * 8
    with real_process(tmp_path / "log", max_connections=20, **keys) as service:
        with connections(service, 20, refused) as flood:
            assert flood[0].recv(1000).startswith(f"HTTP/1.1 {status}".encode())
            assert httpx.get(f"{service.url}/livez", timeout=60).status_code == 200


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("began", [b"", b"GET /livez HT", HEAD], ids=["nothing", "a line", "no end"])
def test_a_head_has_its_time(tmp_path: Path, began: bytes) -> None:
    with real_process(tmp_path / "log", head_seconds=0.3) as service:
        with connections(service, 1, began) as (connection,):
            assert ended(connection)
        # The same for a second request on a connection whose first was answered.
        with connections(service, 1, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") as (connection,):
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            connection.sendall(b"GET /li")
            assert ended(connection)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_body_in_crumbs_is_refused(tmp_path: Path) -> None:
    head = HEAD.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked")
    with real_process(tmp_path / "log") as service:
        with connections(service, 1, head + b"\r\n" + b"1\r\nx\r\n" * 10_000) as (connection,):
            assert ended(connection)
        assert post(service).status_code == 200


@pytest.mark.parametrize("offer", [b"h2c", b"websocket"])
def test_a_client_that_offers_another_protocol_is_answered_in_this_one(tmp_path: Path, offer: bytes) -> None:
    """Java's own client and `curl --http2` do so with every request."""
    upgrade = b"POST /certify HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: " + offer
    request = whole_request().replace(b"POST /certify HTTP/1.1", upgrade + b"\r\nHTTP2-Settings: AAMAAABkAAQ", 1)
    with real_process(tmp_path / "log") as service, connections(service, 1, request) as (connection,):
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_is_no_http_is_counted_and_does_not_fill_the_log(tmp_path: Path) -> None:
    with real_process(tmp_path / "log") as service:
        with connections(service, 20, b"\x00\xff\r\n\r\n") as sockets:
            assert all(ended(connection) for connection in sockets)
        assert service.metric("certify_no_http_total") == 20
        assert len([entry for entry in service.log_entries() if "Invalid HTTP" in str(entry["message"])]) == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_port_in_use_is_the_last_line_of_the_log(tmp_path: Path) -> None:
    """And it is noticed before the bundle is looked for."""
    with real_process(tmp_path / "log") as service:
        second = subprocess.run(
            [sys.executable, "-m", "certify", "serve", "--bundle=/nowhere", f"--port={service.port}"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert second.returncode == 2
    last = second.stderr.splitlines()[-1]
    assert "cannot serve" in last and f"cannot listen on 127.0.0.1:{service.port}" in last
    assert "Traceback" not in second.stderr


def test_no_more_connections_than_file_descriptors_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 4096))
    assert most_connections(None) == most_connections(500) == 144
    assert most_connections(100) == 100
    monkeypatch.setattr("resource.getrlimit", lambda _: (1 << 20, 1 << 20))
    assert most_connections(None) == 1024


def test_a_form_of_many_fields_is_answered_and_not_cut_off(tmp_path: Path) -> None:
    fields = [("threshold", (None, "0.5"))] * 120 + [("sigmas", (None, "0.5"))] * 60
    with real_process(tmp_path / "log") as service:
        files = [*fields, ("image", ("a.png", pictures.png()))]
        response = httpx.post(f"{service.url}/v1/certify", files=files)  # type: ignore[arg-type]
        assert (response.status_code, response.json()["code"]) == (400, "malformed_body")
        assert response.json()["detail"] == "body: expected at most 64 parts"


@pytest.mark.parametrize(
    ("between", "field", "status"),
    [(b"\r\n", b"threshold", 400), (b"\r\n", b"nonsense", 422), (b"\r\n\r\n\r\n", b"threshold", 400)],
    ids=["one field over and over", "unknown fields", "nearly all line ends"],
)
def test_a_body_of_line_ends_is_told_what_is_wrong_with_it(
    tmp_path: Path, between: bytes, field: bytes, status: int
) -> None:
    part = b'--B\r\nContent-Disposition: form-data; name="%b"\r\n\r\n1' % field + between
    body = part * (2**21 // len(part)) + b"\r\n" * 2**17 + b"--B--\r\n"
    kind = b"Content-Type: multipart/form-data; boundary=B\r\n"
    head = b"POST /v1/certify HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n" % (kind, len(body))
    whole = head + body + b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with real_process(tmp_path / "log") as service:
        for cut in (0, 20, 2000):  # as one, and with a head or a body that comes in two
            with connections(service, 1) as (connection,):
                connection.sendall(whole[:cut])
                time.sleep(0.05 if cut else 0)
                connection.sendall(whole[cut:])
                assert re.findall(rb"HTTP/1.1 (\d+)", everything(connection)) == [b"%d" % status, b"200"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_offer_of_another_protocol_is_declined_and_its_request_answered(tmp_path: Path) -> None:
    """As Java's HttpClient offers h2c with a body, whole, in chunks and late; and the next request is the next one."""
    body = json.dumps({"image": base64.b64encode(pictures.png()).decode(), "samples": 500}).encode()
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    post = f"POST /v1/certify HTTP/1.1\r\nHost: x\r\n{offer}Content-Type: application/json\r\n"
    sized = f"{post}Content-Length: {len(body)}\r\n\r\n".encode()
    chunked = f"{post}Transfer-Encoding: chunked\r\n\r\n".encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:9], body[9:])) + b"0\r\n\r\n"
    get = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with real_process(tmp_path / "log") as service:
        for pieces in ([sized + body + get], [chunked + chunks + get], [sized, body[:50], body[50:], get]):
            with connections(service, 1) as (connection,):
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(0.05)  # or they come as one
                assert re.findall(rb"HTTP/1.1 (\d+)", everything(connection)) == [b"200", b"200"]
        # A body is never taken for a request, whatever it says.
        with connections(service, 1, f"{post}Content-Length: {len(get)}\r\n\r\n".encode() + get) as (connection,):
            connection.sendall(get)
            assert re.findall(rb"HTTP/1.1 (\d+)", everything(connection)) == [b"400", b"200"]


@pytest.mark.slow
def test_a_client_of_http_1_0_gets_streams_without_chunks(tmp_path: Path) -> None:
    """It knows no Transfer-Encoding: what it reads until the connection's end is the body."""
    with real_process(tmp_path / "log") as service:
        for path, accept, ending in (
            ("/v1/certify/batch", "*/*", b"}\n"),
            ("/v1/certify", "text/event-stream", b"}\n\n"),
        ):
            head = f"POST {path} HTTP/1.0\r\nAccept: {accept}".encode()
            with connections(service, 1, whole_request().replace(b"POST /certify HTTP/1.1", head, 1)) as (old,):
                head, _, body = everything(old).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200") and b"transfer-encoding" not in head.lower(), head
            assert body.startswith((b'{"index":0', b"event: progress")) and body.endswith(ending), body
