"""/docs, without the internet."""

from __future__ import annotations

import gzip
import hashlib
import re

import pytest

from certify.service.http.routes import docs
from tests.answer_rules import check
from tests.servers import in_process

pytestmark = pytest.mark.anyio

# Of swagger-ui-dist 5.35.0, as npm has it.
SUMS = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}


async def test_the_page_loads_nothing_from_elsewhere() -> None:
    async with in_process() as service:
        page = (await service.client.get("/docs")).text
        assert "SwaggerUIBundle" in page
        loaded = re.findall(r"""(?:src|href)=["']([^"']*)""", page) + re.findall(r"url: '([^']*)'", page)
        assert len(loaded) == 4
        for url in loaded:
            assert url == "data:," or (await service.client.get(url)).status_code == 200


@pytest.mark.parametrize("name", SUMS)
async def test_assets_are_swagger_ui_s_own_with_or_without_compression(name: str) -> None:
    async with in_process() as service:
        for encoding, sent in (("gzip, deflate", "gzip"), ("identity", None), ("gzip;q=0", None)):
            response = await service.client.get(f"/docs/{name}", headers={"Accept-Encoding": encoding})
            assert response.headers.get("Content-Encoding") == sent
            assert hashlib.sha256(response.content).hexdigest() == SUMS[name]
        packed = (docs._ASSETS / f"{name}.gz").read_bytes()
        assert gzip.decompress(packed) == response.content
        assert len(packed) < 600_000


async def test_its_digit_can_be_sent_as_it_is() -> None:
    async with in_process() as service:
        digit = await service.client.get("/docs/digit.png")
        assert digit.headers["Content-Type"] == "image/png"
        files = {"image": ("digit.png", digit.content)}
        answer = await service.client.post("/v1/certify", files=files, data={"samples": "1000"})
        assert answer.status_code == 200
        assert check(answer.json())["input"]["resized"] is False
