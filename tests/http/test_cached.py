"""CERTIFY_CACHE_ANSWERS: an equal question is answered again, to the last digit, without a sample."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from certify.service.backends.fake import FakeBackend
from tests import pictures
from tests.answer_rules import check
from tests.http.streamed import events_of, facts, lines_of
from tests.servers import InProcess, in_process

pytestmark = pytest.mark.anyio


async def ask(service: InProcess, image: bytes | int = 0, **fields: str) -> dict[str, Any]:
    data = pictures.png(image) if isinstance(image, int) else image
    response = await service.client.post("/v1/certify", files={"image": ("a.png", data)}, data=fields)
    assert response.status_code == 200, response.text
    return check(response.json())


async def test_without_the_setting_nothing_is_kept() -> None:
    async with in_process() as service:
        first, second = [await ask(service, samples="1000") for _ in range(2)]
        assert (first["timing"]["cached"], second["timing"]["cached"]) == (False, False)
        assert service.backend.calls > 0 and facts(first) == facts(second)


async def test_an_equal_question_however_spelled_is_answered_again_and_nothing_is_drawn() -> None:
    async with in_process(cache_answers=10) as service:
        first = await ask(service, samples="1000")
        calls = service.backend.calls
        bmp_free = pictures.encoded(pictures.gray(), "WEBP", lossless=True)  # another file of the same pixels
        for image, fields in (
            (pictures.png(), {"samples": "1000"}),
            (pictures.png(), {"samples": "1001", "alpha": "0.001", "sigmas": "1,0.5,0.25"}),
            (pictures.png(), {"samples": "1000", "deadline_ms": "600000"}),
            (bmp_free, {"samples": "1000"}),
        ):
            again = await ask(service, image, **fields)
            assert again["timing"]["cached"] is True and again["timing"]["sampling_seconds"] == 0
            assert facts(again) == facts(first) and again["id"] != first["id"]
        assert service.backend.calls == calls
        assert await service.metric("certify_cached_answers_total") == 4
        assert await service.total("certify_requests_total") == 5
        assert await service.metric("certify_samples_used_count") == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"samples": "2000"},
        {"radius": "0.05"},
        {"alpha": "0.002"},
        {"sigmas": "1,0.5"},
        {"final": "threshold"},
        {"evidence": "true"},
    ],
    ids=str,
)
async def test_another_question_is_drawn(fields: dict[str, str]) -> None:
    async with in_process(cache_answers=10) as service:
        await ask(service, samples="1000")
        assert (await ask(service, **{"samples": "1000", **fields}))["timing"]["cached"] is False
        assert (await ask(service, 1, samples="1000"))["timing"]["cached"] is False


async def test_a_radius_that_means_the_same_in_another_norm_keeps_its_own_words() -> None:
    async with in_process(cache_answers=10) as service:
        by_linf = await ask(service, samples="1000", norm="linf", radius="0.0125")  # of 64 pixels: 0.1 in L2
        by_l2 = await ask(service, samples="1000", radius="0.1")
        assert by_l2["timing"]["cached"] is False
        assert (by_linf["norm"], by_l2["norm"], by_l2["requested_radius"]) == ("linf", "l2", 0.1)
        assert by_l2["samples_used"] == by_linf["samples_used"] and by_l2["stages"] == by_linf["stages"]


async def test_what_a_deadline_cut_short_and_what_has_evidence_is_not_kept() -> None:
    async with in_process(FakeBackend(delay_seconds=0.03), cache_answers=10) as service:
        asked = {"samples": "20000", "alpha": "0.00001"}
        cut = await ask(service, **asked, deadline_ms="400")
        again = await ask(service, **asked, deadline_ms="400")
        assert again["timing"]["cached"] is False and cut["samples_used"] < 20_000
        service.backend.delay_seconds = 0.0
        for _ in range(2):
            with_evidence = await ask(service, samples="1000", evidence="true")
            assert with_evidence["timing"]["cached"] is False and with_evidence["evidence"]


async def test_the_oldest_goes_first_and_each_client_has_its_own(tmp_path: Path) -> None:
    lines = [f"{name} {hashlib.sha256(key.encode()).hexdigest()} 5000 2\n" for name, key in (("a", "k1"), ("b", "k2"))]
    (tmp_path / "keys").write_text("".join(lines))
    async with in_process(cache_answers=2, api_keys_file=str(tmp_path / "keys")) as service:
        service.client.headers["Authorization"] = "Bearer k1"
        for seed, cached in ((0, False), (1, False), (0, True), (2, False), (0, True), (1, False)):
            assert (await ask(service, seed, samples="1000"))["timing"]["cached"] is cached
        # Whoever asks for what is kept spends nothing: 4,000 may be drawn in all, and each of these reserves 1,000.
        for _ in range(8):
            assert (await ask(service, 1, samples="1000"))["timing"]["cached"] is True
        service.client.headers["Authorization"] = "Bearer k2"
        assert (await ask(service, 1, samples="1000"))["timing"]["cached"] is False


async def test_streams_have_kept_answers_too() -> None:
    async with in_process(cache_answers=10) as service:
        first = await ask(service, samples="1000")
        image, data = {"image": ("a.png", pictures.png())}, {"samples": "1000"}
        batch = await service.client.post("/v1/certify/batch", files=image, data=data)
        (line,) = lines_of(batch.text)
        assert line["answer"]["timing"]["cached"] is True and facts(line["answer"]) == facts(first)
        watched = await service.client.post(
            "/v1/certify", files=image, data=data, headers={"Accept": "text/event-stream"}
        )
        ((name, answer),) = events_of(watched.text)
        assert name == "answer" and answer["timing"]["cached"] is True and facts(answer) == facts(first)


async def test_a_negative_number_stops_the_start() -> None:
    with pytest.raises(Exception, match="CERTIFY_CACHE_ANSWERS"):
        async with in_process(cache_answers=-1):
            raise AssertionError("it started")


async def test_info_says_how_many_images_a_batch_may_have() -> None:
    async with in_process(max_batch=7) as service:
        response: httpx.Response = await service.client.get("/info")
        assert response.json()["limits"]["max_batch"] == 7
