"""What a client still sends once it has been answered, or that is no request: read to a limit, and told so."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from certify.service.http.rests import Rest, RestLimits
from tests.http.connecting import answer, connections, ended, everything, whole_request
from tests.servers import real_process


def test_a_client_that_sends_all_before_it_reads_is_told_why_it_is_refused(tmp_path: Path) -> None:
    """As urllib does, which asks for one answer a connection: a connection that is reset would lose it."""
    with real_process(tmp_path / "log") as service:
        for path, size, status in (("/nowhere", 9, 404), ("/v1/certify?a=1", 9, 422), ("/v1/certify", 11, 413)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{service.url}{path}", data=bytes(size * 2**20))
            assert (refused.value.code, json.load(refused.value)["status"]) == (status, status), path
            refused.value.close()
        with connections(service, 1, b"\x00\xff\r\n\r\n" + bytes(9 * 2**20)) as (no_http,):
            assert no_http.recv(1000).startswith(b"HTTP/1.1 400")


def test_what_follows_an_answer_is_read_to_a_limit(tmp_path: Path) -> None:
    head = b"POST /nowhere HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n"
    with real_process(tmp_path / "log", max_body_bytes=10_000) as service:
        with connections(service, 1, head % b"Content-Length: 40000") as (connection,):
            assert not answer(connection).will_close
            connection.sendall(bytes(40_000) + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer(connection).status == 200
        with connections(service, 1, head % b"Content-Length: 40001") as (connection,):
            assert b"connection: close" in everything(connection)
        with connections(service, 1, head % b"Transfer-Encoding: chunked") as (connection,):
            assert answer(connection).status == 404
            with pytest.raises(ConnectionError):
                while True:
                    connection.sendall(b"3e8\r\n" + bytes(1000) + b"\r\n")
    with real_process(tmp_path / "log", body_seconds=0.3) as service:
        with connections(service, 1, head % b"Content-Length: 9") as (connection,):
            assert ended(connection)


def test_bodies_that_nobody_reads_take_turns() -> None:
    """Whoever sends them as fast as they are taken leaves the loop to others."""

    async def reading() -> list[int]:
        limits, resumed = RestLimits(most_bytes=10**6, seconds=60), [0]
        rests = [
            Rest(limits, pause=lambda: None, resume=lambda: resumed.append(resumed.pop() + 1), end=lambda: None)
            for _ in range(100)
        ]
        seen = []
        for rest in rests:
            rest.came(1000, "lane")
        for _ in range(4):
            seen.append(resumed[0])
            await asyncio.sleep(0)
        for rest in rests:
            rest.forget("lane")
        return seen

    first, *later = asyncio.run(reading())
    assert first == 2 and all(after - before == 2 for before, after in zip([first, *later], later, strict=False))


def test_what_is_no_request_is_told_so_and_spoils_no_earlier_answer(tmp_path: Path) -> None:
    with real_process(tmp_path / "log") as service:
        with connections(service, 1, whole_request() + b"\x00no request\r\n\r\n") as (connection,):
            assert answer(connection).status == 200
            assert ended(connection)
        cookies = b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"Cookie: %b\r\n" % (b"c" * 8000) * 50
        with connections(service, 1, cookies) as (connection,):
            told = everything(connection)
            assert told.startswith(b"HTTP/1.1 400") and told.endswith(b"at most 32768 bytes"), told


def test_a_client_of_http_1_0_is_not_told_to_go_on(tmp_path: Path) -> None:
    """Of a status 100 it knows nothing, and would take it for its answer (RFC 9110, 10.1.1)."""
    request = whole_request().replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\nExpect: 100-continue\r\n", 1)
    with real_process(tmp_path / "log") as service, connections(service, 1, request) as (old,):
        assert everything(old).startswith(b"HTTP/1.1 200")
