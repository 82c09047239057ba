"""The backends under contract. A new one is one more entry in BACKENDS; the tests do not change."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

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


def _remote(request: pytest.FixtureRequest) -> Backend:
    """The embedded backend, its classifier asked over HTTP."""
    from certify.service.backends.embedded import EmbeddedBackend

    return EmbeddedBackend(request.getfixturevalue("remote_bundle"), workers=2)


@pytest.fixture(scope="session")
def remote_bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Digits with its classifier on a server of its own; skips where it cannot be packed."""
    for package in ("torch", "diffusers", "timm", "openvino"):
        pytest.importorskip(package, reason="packing a bundle needs torch and openvino")
    from certify.models.bundle import find_bundle
    from certify.models.pack import RemoteClassifier, pack
    from tests.remote.server import model_server

    digits, out = find_bundle("digits"), tmp_path_factory.mktemp("remote") / "bundle"
    with model_server() as server:
        server.extensions = ["binary_tensor_data"]
        far = RemoteClassifier(url=server.url, given={"input": {"mean": [0.5], "std": [0.5]}})
        pack(denoiser=digits / "denoiser", scheduler=digits / "scheduler", classifier=far, sigmas=(0.25, 0.5), out=out)
        yield out


BACKENDS = {
    "fake": pytest.param(_fake),
    "embedded": pytest.param(_embedded),
    "remote": pytest.param(_remote, marks=pytest.mark.slow),
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
