"""Requests that come before the ones before them are answered: on real sockets, of a real process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.http.connecting import connections, everything, whole_request
from tests.servers import Process, real_process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
TWO_HOSTS = GET.replace(b"Host: x", b"Host: x\r\nhost: y")
CHUNKED = b"POST /certify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def answers(process: Process, requests: bytes) -> bytes:
    """All that comes until the service closes the connection."""
    with connections(process, 1, requests) as (connection,):
        return everything(connection)


def statuses(answered: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1.1 (\d+)", answered)


def test_a_refusal_leaves_the_next_request_its_body(tmp_path: Path) -> None:
    refused = whole_request().replace(b"POST /certify HTTP", b"POST /certify?a=1 HTTP", 1)
    last = whole_request().replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    with real_process(tmp_path / "log") as service:
        assert statuses(answers(service, refused + last)) == [b"422", b"200"]


def test_whoever_leaves_ends_the_work_whatever_stands_behind_it(tmp_path: Path) -> None:
    with real_process(tmp_path / "log", fake_delay_seconds=3600) as service:
        for left, (at_once, later) in enumerate([(GET, b""), (b"", GET)], start=1):
            with connections(service, 1, whole_request() + at_once) as (connection,):
                service.wait_for("certify_in_flight", 1)
                connection.sendall(later)
            service.wait_for("certify_disconnects_total", left)
            service.wait_for("certify_in_flight", 0)
            service.wait_for("certify_queue_depth", 0)


def test_of_too_many_the_first_are_answered_and_the_last_answer_says_that_it_is(tmp_path: Path) -> None:
    """RFC 9112, 9.3.2: a client asks again for what has no answer when the connection ends."""
    with real_process(tmp_path / "log", fake_delay_seconds=0.05) as service:
        for request in (GET, whole_request()):
            answered = answers(service, whole_request() + request * 30)
            assert statuses(answered) == [b"200"] * 9
            assert answered.count(b"connection: close") == 1
            assert answered.rindex(b"connection: close") > answered.rindex(b"HTTP/1.1")


def test_what_is_no_http_takes_no_answer_from_what_came_before(tmp_path: Path) -> None:
    with real_process(tmp_path / "log", fake_delay_seconds=0.05) as service:
        for broken in (b"\x00\xff\r\n\r\n", CHUNKED + b"no size\r\n", TWO_HOSTS):
            for between in (0, 1, 3):
                answered = answers(service, whole_request() + GET * between + broken)
                assert statuses(answered) == [b"200"] * (1 + between)


def test_a_request_to_two_hosts_is_refused(tmp_path: Path) -> None:
    """RFC 9112, 3.2: a proxy may have gone by the other one."""
    with real_process(tmp_path / "log") as service:
        assert statuses(answers(service, TWO_HOSTS)) == [b"400"]
        assert statuses(answers(service, whole_request().replace(b"\r\n", b"\r\nHost: y\r\n", 1))) == [b"400"]
        assert statuses(answers(service, GET.replace(b"Host: x\r\n", b"Connection: close\r\n"))) == [b"200"]
