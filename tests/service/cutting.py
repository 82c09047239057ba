"""A real TCP proxy that loses connections: what stands between a client and a service, on a bad day."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

__all__ = ("Cutting", "cutting")


class Cutting(socketserver.ThreadingTCPServer):
    """script: after how many bytes of answers each connection is cut, one after the other; None: never."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, script: list[int | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.upstream, self.script, self.connections = ("127.0.0.1", port), script, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Connection(socketserver.BaseRequestHandler):
    server: Cutting

    def handle(self) -> None:
        server = self.server
        most = server.script[min(server.connections, len(server.script) - 1)]
        server.connections += 1
        with socket.create_connection(server.upstream) as service:
            there = threading.Thread(target=_pass_on, args=(self.request, service, None))
            there.start()
            _pass_on(service, self.request, most)
            for side in (self.request, service):
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
            there.join()


def _pass_on(source: socket.socket, target: socket.socket, most: int | None) -> None:
    """Until the source ends, or `most` bytes have been passed on."""
    passed = 0
    with contextlib.suppress(OSError):
        while piece := source.recv(2**16 if most is None else min(2**16, most - passed)):
            target.sendall(piece)
            passed += len(piece)
            if passed == most:
                return
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def cutting(port: int, *script: int | None) -> Iterator[Cutting]:
    """In front of the service at `port`; the last of the script is for all that come after."""
    with Cutting(port, list(script)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
