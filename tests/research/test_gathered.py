"""What `certify dataset --url` asks one by one goes to the service in batches."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest

from certify import AsyncClient
from certify.service.errors import BackendUnavailable, RequestError
from certify.service.http.app import create_app
from certify.service.research.gathered import Gathered
from certify.service.settings import load_settings
from tests import pictures
from tests.servers import SEED_KEY

pytestmark = pytest.mark.anyio


async def test_what_is_asked_at_once_goes_along_and_each_gets_its_own_answer(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(load_settings(backend="fake", seed_key=SEED_KEY))
    images = [pictures.png(seed) for seed in range(20)] + [b"no image"]
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), AsyncClient("http://certify", transport=transport) as client:
        gathered = Gathered(client, {"samples": "1000"})
        with caplog.at_level(logging.INFO):
            together = await asyncio.gather(*map(gathered.certify, images), return_exceptions=True)
        paths = [record.facts["path"] for record in caplog.records if record.getMessage() == "request"]  # type: ignore[attr-defined]
        assert paths == ["/v1/certify/batch"]
        *answers, refused = together
        assert isinstance(refused, RequestError) and refused.code == "unsupported_format"
        for image, answer in zip(images, answers, strict=False):
            alone = await client.certify(image, samples=1000)
            assert not isinstance(answer, BaseException)
            assert (answer.radius, answer.label, answer.stages) == (alone.radius, alone.label, alone.stages)
        await gathered.close()


async def test_what_is_wrong_with_all_is_told_to_each() -> None:
    async with AsyncClient("http://127.0.0.1:9") as client:
        gathered = Gathered(client, {})
        together = await asyncio.gather(*(gathered.certify(b"") for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in together] == [BackendUnavailable] * 3
        waiting = asyncio.create_task(gathered.certify(b""))
        await asyncio.sleep(0)
        await gathered.close()
        with pytest.raises((BackendUnavailable, asyncio.CancelledError)):
            await waiting
