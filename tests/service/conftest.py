"""No CERTIFY_ variable of whoever runs the tests may reach them; async tests run on asyncio, as the service does."""

from __future__ import annotations

import os

import pytest

from service.settings import ENV_PREFIX


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(ENV_PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
