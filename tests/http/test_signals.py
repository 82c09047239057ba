"""Signals while starting, idle, and stuck: a real process, its exit code and its last words."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certify.models.triton.server import free_ports
from tests.servers import ROOT, real_process

from .test_server import whole_request

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def _hang_up_is_not_ignored() -> Iterator[None]:
    """As under nohup: children would have it so from us, and heed it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def started(arguments: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Killed at the end: a test that fails would else wait for it."""
    with subprocess.Popen(arguments, cwd=ROOT, text=True, **options) as popen:
        try:
            yield popen
        finally:
            popen.kill()


STUCK = """
import sys, time
from certify.service.backends.fake import FakeBackend
from certify.service.http import server
from certify.service.http.app import create_app
from certify.service.settings import load_settings

class Stuck(FakeBackend):
    async def count_votes(self, image, **call):
        sys.stderr.write("stuck\\n")
        while True:
            time.sleep(3600)

server._GONE_SECONDS = 0.1
settings = load_settings(backend="fake", http_port=int(sys.argv[1]), grace_seconds=0.1)
server.Server(create_app(settings, Stuck()), settings).run()
"""


def test_a_process_that_hears_nothing_ends_after_its_grace_and_says_what_it_was_at() -> None:
    [port] = free_ports(1)
    with started([sys.executable, "-c", STUCK, str(port)], stderr=subprocess.PIPE) as popen:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
                break
            time.sleep(0.02)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(whole_request())
            assert popen.stderr is not None
            while popen.stderr.readline() != "stuck\n":
                pass
            popen.send_signal(signal.SIGTERM)
            assert popen.wait() == 1
            assert "in count_votes" in popen.stderr.read()


STARTING = """
import asyncio, sys, time
from certify.service.backends.fake import FakeBackend
from certify.service.http import log, server
from certify.service.http.app import create_app
from certify.service.settings import load_settings

class Loading(FakeBackend):
    async def open(self):
        sys.stderr.write("loading\\n")
        await asyncio.to_thread(time.sleep, 3600)

log.configure("info")
settings = load_settings(backend="fake", http_port=0)
server.Server(create_app(settings, Loading()), settings).run()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_service_that_is_starting_ends_at_once_and_says_so(number: signal.Signals) -> None:
    with started([sys.executable, "-c", STARTING], stderr=subprocess.PIPE) as popen:
        assert popen.stderr is not None
        while popen.stderr.readline() != "loading\n":
            pass
        popen.send_signal(number)
        assert popen.wait() == 0
        assert "ended by a signal while starting" in popen.stderr.read().splitlines()[-1]


def test_without_standard_input_output_and_error_it_serves_and_ends_as_ever() -> None:
    [port] = free_ports(1)
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "certify", "serve", "--backend=fake"]
    with started([*closed, f"--http-port={port}"]) as popen:
        while popen.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
                break
            time.sleep(0.02)
        popen.send_signal(signal.SIGTERM)
        assert popen.wait() == 0


def test_an_idle_service_ends_at_once_on_any_signal(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with real_process(tmp_path / "log") as service:
            service.popen.send_signal(number)
            assert service.popen.wait() == 0
