"""What comes of a stream: lines of a batch, server-sent events."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from certify.service.backends.fake import FakeBackend
from certify.service.http.app import create_app
from certify.service.http.server import Server
from certify.service.settings import load_settings
from tests.servers import SEED_KEY

Json = dict[str, Any]


def lines_of(text: str) -> list[Json]:
    """Of NDJSON; empty lines mean nothing."""
    return [json.loads(line) for line in text.split("\n") if line]


def events_of(text: str) -> list[tuple[str, Json]]:
    """(event, data) of each; comments mean nothing."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            events.append((fields["event"], json.loads(fields["data"])))
    return events


def facts(answer: Json) -> Json:
    """An answer or a problem without what names the occasion."""
    return {name: value for name, value in answer.items() if name not in ("id", "timing", "instance")}


@contextmanager
def served(backend: FakeBackend, **flags: object) -> Iterator[str]:
    """The real server in a thread of this process, where a test can reach its constants. Its address."""
    settings = load_settings(**{"backend": "fake", "seed_key": SEED_KEY, "http_port": 0, **flags})
    server = Server(create_app(settings, backend), settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            threading.Event().wait(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


class IdleProxy:
    """A proxy that cuts a connection when no byte has come from the service for `seconds`."""

    def __init__(self, url: str, seconds: float) -> None:
        self._port = httpx.URL(url).port
        self._seconds = seconds

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *failure: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._port)

        async def up() -> None:
            while data := await reader.read(65536):
                forth.write(data)

        sending = asyncio.create_task(up())
        try:
            while data := await asyncio.wait_for(back.read(65536), self._seconds):
                writer.write(data)
        except TimeoutError:
            pass
        finally:
            sending.cancel()
            forth.close()
            writer.close()
