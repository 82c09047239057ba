"""The backends under contract. A new one is one more entry in BACKENDS; the tests do not change."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable

import pytest

from service.backends.base import Backend
from service.backends.fake import FakeBackend


def _fake() -> Backend:
    return FakeBackend(delay_seconds=0.001)


def _embedded() -> Backend:
    from service.backends.embedded import EmbeddedBackend

    return EmbeddedBackend("digits", workers=2)


BACKENDS: dict[str, Callable[[], Backend]] = {"fake": _fake, "embedded": _embedded}
NEEDS_TORCH = {"embedded"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=sorted(BACKENDS))
def make_backend(request: pytest.FixtureRequest) -> Callable[[], Backend]:
    """Makes the backend, not yet open; the test's id has its name."""
    if request.param in NEEDS_TORCH and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed (pip install 'certify[embedded]')")
    return BACKENDS[request.param]


@pytest.fixture
async def backend(make_backend: Callable[[], Backend]) -> AsyncIterator[Backend]:
    """An open backend, closed afterwards."""
    opened = make_backend()
    await opened.open()
    yield opened
    await opened.close()
