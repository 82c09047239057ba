"""The application in this process, and real `certify serve` processes, both on the fake backend."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from certify.service.backends.fake import FakeBackend
from certify.service.http.app import create_app
from certify.service.http.context import Gateway
from certify.service.settings import ENV_PREFIX, load_settings

SEED_KEY = "a key for tests, long enough: 0123456789"
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class InProcess:
    client: httpx.AsyncClient
    gateway: Gateway
    backend: FakeBackend

    async def metric(self, line_start: str) -> float:
        return metric(await self.metrics_text(), line_start)

    async def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        families = text_string_to_metric_families(await self.metrics_text())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    async def metrics_text(self) -> str:
        return (await self.client.get("/metrics")).text


@contextlib.asynccontextmanager
async def in_process(backend: FakeBackend | None = None, /, **flags: object) -> AsyncIterator[InProcess]:
    """The application over ASGI, its lifespan running."""
    backend = backend or FakeBackend()
    app = create_app(load_settings(**{"backend": "fake", "seed_key": SEED_KEY, **flags}), backend)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=transport, base_url="http://certify", timeout=60) as client:
            yield InProcess(client, app.state.gateway, backend)


@dataclass(frozen=True)
class Process:
    popen: subprocess.Popen[str]
    url: str
    port: int
    log: Path

    def metric(self, line_start: str) -> float:
        return metric(httpx.get(f"{self.url}/metrics").text, line_start)

    def wait_for(self, line_start: str, value: float) -> None:
        """Until a metric has this value. The test's own time limit is the only clock."""
        while self.metric(line_start) != value:
            time.sleep(0.02)

    def wait_ready(self, status: int = 200) -> None:
        """Until /readyz answers so. A probe may wait for a server that has yet to be found dead."""
        while httpx.get(f"{self.url}/readyz", timeout=60).status_code != status:
            time.sleep(0.1)

    def log_entries(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextlib.contextmanager
def real_process(log: Path, *, prefix: Sequence[str] = (), **flags: object) -> Iterator[Process]:
    """`certify serve` on a free port, listening; it is ended with SIGTERM unless it has ended already.

    prefix: a command that runs it.
    """
    flags = {"backend": "fake", "http_port": 0, "seed_key": SEED_KEY, **flags}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    with log.open("w") as stderr:
        popen = subprocess.Popen(
            [*prefix, sys.executable, "-m", "certify", "serve", *options],
            stderr=stderr, text=True, cwd=ROOT, env=environment,
        )  # fmt: skip
    try:
        port = _port(popen, log)
        yield Process(popen, f"http://127.0.0.1:{port}", port, log)
    finally:
        popen.terminate()
        popen.wait()


@contextlib.contextmanager
def real_gateway(log: Path, triton_url: str, **flags: object) -> Iterator[Process]:
    """A real_process on real Triton servers, ready."""
    with real_process(log, backend="triton", triton_url=triton_url, **flags) as process:
        process.wait_ready()
        yield process


def metric(text: str, line_start: str) -> float:
    """The value of the one sample whose line starts so, for example `certify_errors_total{code="queue_full"}`."""
    (line,) = [line for line in text.splitlines() if line.startswith(line_start + " ")]
    return float(line.rsplit(" ", 1)[1])


def _port(popen: subprocess.Popen[str], log: Path) -> int:
    while popen.poll() is None:
        for line in log.read_text().splitlines():
            if found := re.search(r"running on http://\S+:(\d+)", line):
                return int(found[1])
        time.sleep(0.02)
    raise AssertionError(f"the service ended with {popen.returncode}: {log.read_text()}")
