"""A gateway process on a real Triton; servers of their own for tests that harm them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from certify.models.triton.server import TritonServer


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def make_server(
    triton_repository: Path, triton_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., TritonServer]]:
    """Makes servers, started, on `repository` or the shared one; all are killed when the module is done."""
    from certify.models.triton.server import TritonServer

    servers = []

    def make(repository: Path | None = None, **parameters: object) -> TritonServer:
        log = tmp_path_factory.mktemp("server") / "log"
        server = TritonServer(repository or triton_repository, log=log, home=triton_home, **parameters)
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.kill()  # what these tests did to them can make a graceful end last its 30 seconds


@pytest.fixture(scope="session")
def digit() -> bytes:
    """A drawn eight-by-eight PNG that the bundle reads with confidence: a ring, so a zero."""
    rows = ["00399300", "0c9009c0", "0c3003c0", "09000090", "09000090", "0c3003c0", "0c9009c0", "00399300"]
    pixels = np.array([[int(c, 16) * 17 for c in row] for row in rows], dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def executed(server: TritonServer) -> int:
    """Requests that the model has executed, as the server counts them."""
    return _metric(server, "nv_inference_count")


def executions(server: TritonServer) -> int:
    """Calls of execute(), each of one or more requests."""
    return _metric(server, "nv_inference_exec_count")


def pending(server: TritonServer) -> int:
    """Requests that wait for an instance."""
    return _metric(server, "nv_inference_pending_request_count")


def _metric(server: TritonServer, name: str) -> int:
    """Of its one model; 0 before there is any."""
    text = httpx.get(f"http://127.0.0.1:{server.metrics_port}/metrics").text
    lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
    return int(float(lines[0].rsplit(" ", 1)[1])) if lines else 0
