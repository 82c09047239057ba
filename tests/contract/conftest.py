"""The backends under contract. A new one is one more entry in BACKENDS; the tests do not change."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable

import pytest

from certify.service.backends.base import Backend
from certify.service.backends.fake import FakeBackend

MakeBackend = Callable[[], Backend]


def _fake(request: pytest.FixtureRequest) -> Backend:
    return FakeBackend(delay_seconds=0.001)


def _embedded(request: pytest.FixtureRequest) -> Backend:
    if not any(map(importlib.util.find_spec, ("openvino", "torch"))):
        pytest.skip("no engine is installed (pip install 'certify[cpu]')")
    from certify.service.backends.embedded import EmbeddedBackend

    return EmbeddedBackend("digits", workers=2)


def _triton(request: pytest.FixtureRequest) -> Backend:
    from certify.service.backends.triton import TritonBackend

    server = request.getfixturevalue("triton_server")  # skips where no server can run
    return TritonBackend([server.url], call_seconds=60)


BACKENDS = {
    "fake": pytest.param(_fake),
    "embedded": pytest.param(_embedded),
    "triton": pytest.param(_triton, marks=pytest.mark.slow),
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=list(BACKENDS.values()), ids=list(BACKENDS))
def make_backend(request: pytest.FixtureRequest) -> MakeBackend:
    """Makes the backend, not yet open; the test's id has its name."""
    request.param(request)  # skips now, where it cannot be made
    return lambda: request.param(request)


@pytest.fixture
async def backend(make_backend: MakeBackend) -> AsyncIterator[Backend]:
    """An open backend, closed afterwards."""
    opened = make_backend()
    await opened.open()
    yield opened
    await opened.close()
