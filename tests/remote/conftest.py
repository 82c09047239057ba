"""One server of the digits classifier to share, honest again before each test, and a bundle that asks it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch", reason="the tests' server runs the digits classifier in torch")

from certify.models.remote.declared import Input, Output, Remote
from certify.models.retries import Retries
from tests.remote.server import ModelServer, model_server

QUICK = Retries(attempts=3, first_contact_attempts=2, first_pause=0.01, longest_pause=0.02, longest_retry_after=0.05)
INPUT = Input(name="images", dtype="fp32", layout="NCHW", channels=1, size=(8, 8), mean=(0.5,), std=(0.5,))
DIGITS = tuple("0123456789")


@pytest.fixture(scope="session")
def shared_server() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


@pytest.fixture
def server(shared_server: ModelServer) -> Iterator[ModelServer]:
    before = shared_server.metadata
    yield shared_server
    shared_server.metadata, shared_server.extensions, shared_server.version = before, [], "1"
    shared_server.token, shared_server.seconds, shared_server.lie = None, 0.0, None
    shared_server.calls.clear()


def remote_of(url: str, **changes: object) -> Remote:
    """The field of a bundle whose endpoint is at `url`, of its honest metadata."""
    plain = "/v2/" not in url
    facts: dict[str, object] = {
        "url": url,
        "input": INPUT if not plain else Input(**{**vars(INPUT), "name": ""}),
        "output": Output(name="" if plain else "logits", kind="scores"),
        **changes,
    }
    return Remote(**facts)  # type: ignore[arg-type]
