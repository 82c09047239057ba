"""What every suite has: no CERTIFY_ variable of whoever runs it, asyncio, and one real Triton server to share."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from certify.service.settings import ENV_PREFIX

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from certify.models.triton.server import TritonServer


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(ENV_PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def log_stream() -> Iterator[io.StringIO]:
    """Where this test's log goes, as a service writes it; the root logger is put back as it was."""
    from certify.service.http import log

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    buffer = io.StringIO()
    log.configure("debug", buffer)
    yield buffer
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Spans that end while the test runs, of the service in this process."""
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from certify.service import tracing

    exporter = InMemorySpanExporter()
    tracing.configure("test", exporter)
    yield exporter
    tracing.shut_down()


@pytest.fixture(scope="session")
def triton_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits bundle as a model repository; two instances, so that calls really run side by side."""
    pytest.importorskip("torch", reason="the mdds model needs torch (pip install 'certify[torch]')")
    from certify.models.bundle import find_bundle
    from certify.models.export import export

    repository = tmp_path_factory.mktemp("triton") / "repository"
    export(find_bundle("digits"), repository, instances=2)
    return repository


@pytest.fixture(scope="session")
def triton_server(
    triton_repository: Path, triton_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """A running server that no test may harm."""
    from certify.models.triton.server import TritonServer

    log = tmp_path_factory.mktemp("triton") / "server.log"
    with TritonServer(triton_repository, log=log, home=triton_home) as server:
        yield server


@pytest.fixture(scope="session")
def triton_home() -> Path:
    """Where the server's programs are; skips, with the reason, where they cannot run."""
    from certify.models.triton.download import TritonUnavailable, check_platform, fetch

    try:
        check_platform()
    except TritonUnavailable as error:
        pytest.skip(f"no Triton here: {error}")
    return fetch()
