"""Connections on real sockets to a real process."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator

import httpx

from tests import pictures
from tests.servers import Process

__all__ = ("answer", "connections", "ended", "everything", "whole_request")


@contextlib.contextmanager
def connections(process: Process, count: int, request: bytes = b"") -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", process.port), timeout=60))
            with contextlib.suppress(ConnectionError):  # closed for another already
                connection.sendall(request)
            sockets.append(connection)
        yield sockets


def ended(connection: socket.socket) -> bool:
    """When the service has closed it; TimeoutError if it never does."""
    try:
        while connection.recv(1000):
            pass
    except ConnectionError:
        pass
    return True


def everything(connection: socket.socket) -> bytes:
    """Until the service closes it."""
    return b"".join(iter(lambda: connection.recv(10_000), b""))


def answer(connection: socket.socket) -> http.client.HTTPResponse:
    """The next one, which is read."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    response.read()
    return response


def whole_request() -> bytes:
    whole = httpx.Request(
        "POST", "http://127.0.0.1/certify", files={"image": ("a.png", pictures.png())}, data={"samples": "500"}
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in whole.headers.items())
    return f"POST /certify HTTP/1.1\r\n{head}\r\n".encode() + whole.read()
