"""What certified a table's rows is said alike of this process and of a service."""

from __future__ import annotations

import pytest

from certify.service.answering.fields import parse_texts
from certify.service.answering.plans import make_plan
from certify.service.answering.schemas import Info
from certify.service.backends.fake import FakeBackend
from certify.service.errors import DataError
from certify.service.research.about import about_backend, about_service
from tests.servers import SEED_KEY, in_process

ASKED: list[dict[str, str]] = [
    {},
    {"sigmas": "0.5,0.25", "threshold": "0.6,0.7", "final": "threshold"},
    {"threshold": "0.8", "final": "plurality"},
    {"alpha": "0.01", "samples": "2000", "sigmas": "0.5"},
]


@pytest.mark.anyio
async def test_a_service_is_described_as_its_backend_is() -> None:
    info = FakeBackend().info()
    async with in_process() as service:
        said = Info.model_validate((await service.client.get("/info")).json())
    for texts in ASKED:
        fields = parse_texts({name: [text] for name, text in texts.items()})
        plan = make_plan(fields, info, max_samples_allowed=100_000)
        assert about_service(said, texts) == about_backend(info, plan, fields, SEED_KEY.encode()), texts
    with pytest.raises(DataError, match="sigmas: expected some of the bundle's"):
        about_service(said, {"sigmas": "0.3"})
    with pytest.raises(DataError, match="threshold: expected one value or 3"):
        about_service(said, {"threshold": "0.6,0.7"})
