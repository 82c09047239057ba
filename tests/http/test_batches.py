"""POST /v1/certify/batch: a line for each image, as a request of its own would be answered."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from certify.service.backends.fake import FakeBackend
from certify.service.errors import RequestError
from certify.service.http import batches, streams
from certify.service.http.json_bodies import parse_json_batch
from tests import pictures
from tests.answer_rules import check
from tests.http.streamed import IdleProxy, facts, lines_of, served
from tests.servers import InProcess, in_process, real_process

pytestmark = pytest.mark.anyio

URL = "/v1/certify/batch"


def files(*images: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", (f"{number}.png", image)) for number, image in enumerate(images)]


async def ask(service: InProcess, *images: bytes, **fields: Any) -> list[dict[str, Any]]:
    response = await service.client.post(URL, files=files(*images), data=fields)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "application/x-ndjson"
    return lines_of(response.text)


async def single(service: InProcess, image: bytes, **fields: Any) -> dict[str, Any]:
    return (await service.client.post("/v1/certify", files={"image": ("a.png", image)}, data=fields)).json()  # type: ignore[no-any-return]


async def refusal(service: InProcess, status: int, code: str, **request: Any) -> dict[str, Any]:
    response = await service.client.post(URL, **request)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    return response.json()  # type: ignore[no-any-return]


async def test_200_images_of_which_two_are_broken_are_answered_as_alone() -> None:
    images = [pictures.png(seed) for seed in range(200)]
    images[17], images[90] = b"no image", images[90][:60]
    async with in_process() as service:
        lines = {line["index"]: line for line in await ask(service, *images, samples="1000")}
        assert sorted(lines) == list(range(200))
        assert [lines[k]["name"] for k in range(200)] == [f"{k}.png" for k in range(200)]
        problems = {k: lines[k]["problem"] for k in lines if "problem" in lines[k]}
        assert {k: problem["code"] for k, problem in problems.items()} == {
            17: "unsupported_format",
            90: "image_undecodable",
        }
        for k, image in enumerate(images):
            alone = await single(service, image, samples="1000")
            assert facts(lines[k]["problem" if k in problems else "answer"]) == facts(alone)
        answers = [check(lines[k]["answer"]) for k in lines if k not in problems]
        assert len({answer["id"] for answer in answers}) == 198
        # Each is counted as a request of its own.
        assert await service.total("certify_requests_total") == 2 * 198
        assert await service.metric('certify_errors_total{code="unsupported_format"}') == 2
        assert service.gateway.admission.idle


async def test_json_says_the_same_as_a_form() -> None:
    images = [pictures.png(seed) for seed in range(3)]
    texts = [base64.b64encode(image).decode() for image in images]
    async with in_process() as service:
        by_form = await ask(service, *images, samples="1000", radius="0.1")
        body = {"image": texts, "name": ["0.png", "1.png", "2.png"], "samples": 1000, "radius": 0.1}
        by_json = lines_of((await service.client.post(URL, json=body)).text)
        for lines in (by_form, by_json):
            lines.sort(key=lambda line: line["index"])
        for one, other in zip(by_form, by_json, strict=True):
            assert (one["index"], one["name"]) == (other["index"], other["name"])
            assert facts(one["answer"]) == facts(other["answer"])
        (line,) = lines_of((await service.client.post(URL, json={"image": texts[:1]})).text)
        assert (line["index"], line["name"]) == (0, "")
        broken = {"image": [texts[0], "?", "data:image/png;base64," + texts[1]]}
        lines = sorted(lines_of((await service.client.post(URL, json=broken)).text), key=lambda line: line["index"])
        assert [line.get("problem", {}).get("code") for line in lines] == [None, "image_undecodable", None]


@pytest.mark.parametrize("blank", ["", " \n"])
def test_a_long_json_body_is_taken_apart_as_a_short_one_is(blank: str) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate((3, 50_000, 40_000, 0, 7))]
    texts = f",{blank}".join(f'{blank}"{base64.b64encode(piece).decode()}"{blank}' for piece in pieces)
    body = f'{{"samples": 5, {blank}"image"{blank}:{blank}[{texts}], "name": ["a", "b", "c", "d", "é"]}}'.encode()
    values, images = parse_json_batch(body, most=5)
    assert values == {"samples": 5}
    assert images == [*zip("abcdé", pieces, strict=True)]
    short, few = parse_json_batch(b'{"image": [], "radius": 1}', most=5)
    assert (short, few) == ({"radius": 1.0}, [])


@pytest.mark.parametrize("ending", ['"', '",', '",]', '" "a"]', '"', '"}'])
def test_a_long_list_that_is_no_list_is_refused(ending: str) -> None:
    body = ('{"image": ["AAAA", "' + "A" * 2**17 + ending + "}").encode()
    with pytest.raises(RequestError) as refused:
        parse_json_batch(body, most=5)
    assert refused.value.code == "malformed_body"


@pytest.mark.parametrize("longer", [0, 2**17])
@pytest.mark.parametrize("image", ['["AAAA", 5]', '["AAAA",null]', '[["AAAA"]]', '[{"data": "AAAA"}]', '"AAAA"', "{}"])
def test_an_image_that_is_no_list_of_texts_is_refused_alike_however_long_it_is(image: str, longer: int) -> None:
    body = f'{{"image": {image}{" " * longer}}}'.replace("AAAA", "A" * (longer or 4)).encode()
    with pytest.raises(RequestError, match="image: expected a list of base64 texts") as refused:
        parse_json_batch(body, most=5)
    assert (refused.value.code, refused.value.extra["field"]) == ("out_of_range", "image")


async def test_what_is_wrong_with_the_request_is_a_problem_of_its_own() -> None:
    image, text = pictures.png(), base64.b64encode(pictures.png()).decode()
    async with in_process(max_batch=3, max_body_bytes=20_000) as service:
        missing = await refusal(service, 422, "missing_field", data={"samples": "100"}, files=[("image", ("", b""))])
        assert missing["field"] == "image"
        assert (await refusal(service, 422, "missing_field", json={"image": []}))["field"] == "image"
        parts = [("image", ("a.png", image)), ("image", (None, b"false"))]
        assert "got text (false)" in (await refusal(service, 422, "missing_field", files=parts))["detail"]
        for request in ({"files": files(*[image] * 4)}, {"json": {"image": [text] * 4}}):
            assert (await refusal(service, 422, "out_of_range", **request))["max_batch"] == 3
        assert (await refusal(service, 422, "out_of_range", json={"image": [text, 5]}))["field"] == "image"
        assert (await refusal(service, 422, "out_of_range", json={"image": text}))["field"] == "image"
        for names in (["a", "b"], [], [5], "a", ["a" * 256]):
            body = {"image": [text], "name": names}
            assert (await refusal(service, 422, "out_of_range", json=body))["field"] == "name"
        await refusal(service, 422, "unknown_field", files=files(image), data={"epsilon": "1"})
        await refusal(service, 422, "unknown_field", params={"samples": "1"}, files=files(image))
        small = await refusal(service, 422, "budget_too_small", files=files(image), data={"samples": "10"})
        assert small["min_samples"] > 10
        await refusal(service, 413, "body_too_large", files=files(bytes(30_000)))
        await refusal(service, 415, "unsupported_format", content=b"x", headers={"Content-Type": "text/plain"})
        await refusal(service, 400, "malformed_body", content=b"[]", headers={"Content-Type": "application/json"})
        assert (await refusal(service, 422, "out_of_range", files=files(image), data={"signed": "on"}))[
            "field"
        ] == "signed"
        assert service.backend.calls == 0 and service.gateway.admission.idle
        service.gateway.admission.drain()
        await refusal(service, 503, "draining", files=files(image))


async def test_it_is_refused_in_a_full_house_and_else_waits_for_places() -> None:
    backend = FakeBackend(delay_seconds=3600)
    async with in_process(backend, max_running=2, max_queued=0) as service:
        others = [asyncio.create_task(single(service, pictures.png(seed), samples="1000")) for seed in range(2)]
        while backend.running < 2:
            await asyncio.sleep(0.001)
        await refusal(service, 429, "queue_full", files=files(pictures.png()))
        others[0].cancel()
        await asyncio.wait(others[:1])
        while backend.running == 2:
            await asyncio.sleep(0.001)
        backend.delay_seconds = 0.0  # of new calls
        lines = await ask(service, *(pictures.png(seed) for seed in range(5)), samples="1000")
        assert [line["answer"]["samples_used"] > 0 for line in lines] == [True] * 5
        service.gateway.admission.abort()
        await asyncio.wait(others)


async def test_a_batch_holds_no_more_than_its_part_of_the_places() -> None:
    backend = FakeBackend(delay_seconds=3600)
    async with in_process(backend, max_running=4, max_queued=4) as service:
        images = [pictures.png(seed) for seed in range(20)]
        both = [asyncio.create_task(ask(service, *images, samples="1000")) for _ in range(2)]
        while backend.running < 4:
            await asyncio.sleep(0.001)
        assert await service.metric("certify_queue_depth") == 2  # 6 of 8 places
        service.gateway.admission.abort()
        for lines in await asyncio.gather(*both):
            assert [line["index"] for line in lines] == list(range(20))
            assert {line["problem"]["code"] for line in lines} == {"draining"}
            assert {line["problem"]["retry_after_seconds"] for line in lines} == {1}


async def test_each_image_is_paid_for_and_a_spent_budget_is_its_lines_problem(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"camera {hashlib.sha256(b'k').hexdigest()} 5000 2\n")
    async with in_process(api_keys_file=str(tmp_path / "keys")) as service:
        await refusal(service, 401, "unauthorized", files=files(pictures.png()))
        service.client.headers["Authorization"] = "Bearer k"
        await refusal(service, 429, "budget_spent", files=files(pictures.png()), data={"samples": "6000"})
        lines = await ask(service, *(pictures.png(seed) for seed in range(12)), samples="1000")
        used = sum(line["answer"]["samples_used"] for line in lines if "answer" in line)
        spent = [line["problem"] for line in lines if "problem" in line]
        assert spent and {problem["code"] for problem in spent} == {"budget_spent"}
        assert all(1 <= problem["retry_after_seconds"] <= 60 for problem in spent)
        assert 3000 < used <= 5000
        assert await service.metric('certify_client_samples_total{client="camera"}') == used
        await refusal(service, 429, "budget_spent", files=files(pictures.png()), data={"samples": "2000"})


async def test_a_fault_of_one_image_is_its_lines_problem_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def seen(image: bytes, info: object) -> Any:
        if image == b"fault":
            raise ZeroDivisionError
        return original(image, info)  # type: ignore[arg-type]

    original = batches.seen
    monkeypatch.setattr(batches, "seen", seen)
    async with in_process() as service:
        with caplog.at_level(logging.INFO):
            lines = await ask(service, pictures.png(), b"fault", samples="1000")
        by_index = {line["index"]: line for line in lines}
        assert by_index[1]["problem"]["code"] == "internal_error" and "answer" in by_index[0]
        ids = {record.facts["id"] for record in caplog.records if record.getMessage() == "image"}  # type: ignore[attr-defined]
        assert ids == {by_index[0]["answer"]["id"], by_index[1]["problem"]["instance"].removeprefix("urn:uuid:")}


async def test_a_deadline_is_each_images_own() -> None:
    async with in_process(FakeBackend(delay_seconds=3600), max_running=1) as service:
        lines = await ask(service, *(pictures.png(seed) for seed in range(3)), deadline_ms="100")
        assert [line["problem"]["code"] for line in lines] == ["deadline_exceeded"] * 3
        assert all(0.05 < line["problem"]["timing"]["total_seconds"] < 60 for line in lines)


async def test_signed_answers_are_certificates(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="signs (pip install 'certify[signing]')")
    from certify.envelope import PAYLOAD_TYPE, opened
    from certify.service.answering.signing import new_key

    (tmp_path / "key").write_text(new_key())
    async with in_process(signing_key_file=str(tmp_path / "key")) as service:
        by_field = await ask(service, pictures.png(), b"no image", samples="1000", signed="on")
        service.client.headers["Accept"] = PAYLOAD_TYPE
        by_header = await ask(service, pictures.png(), samples="1000")
        for line in (by_field[0] if "certificate" in by_field[0] else by_field[1], by_header[0]):
            payload, _, signatures = opened(json.dumps(line["certificate"]).encode())
            assert payload["version"] == "certify-certificate-1" and len(signatures) == 1


async def test_while_nothing_is_known_empty_lines_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SILENT_SECONDS", 0.01)
    async with in_process(FakeBackend(delay_seconds=0.05)) as service:
        response = await service.client.post(URL, files=files(pictures.png()), data={"samples": "1000"})
        *empty, line = response.text.removesuffix("\n").split("\n")
        assert set(empty) == {""} and "answer" in json.loads(line)


@pytest.mark.slow  # it waits longer than the proxy does
async def test_a_proxy_that_cuts_silent_connections_leaves_a_stream_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SILENT_SECONDS", 0.05)
    backend = FakeBackend(delay_seconds=4.0)
    with served(backend) as url:
        async with IdleProxy(url, seconds=3.0) as proxy, httpx.AsyncClient(base_url=proxy, timeout=60) as client:
            image = {"image": ("a.png", pictures.png())}
            asked = {"samples": "1000", "deadline_ms": "5000"}
            with pytest.raises(httpx.RemoteProtocolError):  # an answer that comes at once is cut off
                await client.post("/v1/certify", files=image, data=asked)
            events = {"Accept": "text/event-stream"}
            watched = await client.post("/v1/certify", files=image, data=asked, headers=events)
            assert watched.text.endswith("\n\n") and "event: problem" in watched.text  # no look within 5 s
            batch = await client.post(URL, files=image, data=asked)
            (line,) = lines_of(batch.text)
            assert line["problem"]["code"] == "deadline_exceeded"


@pytest.mark.slow
def test_a_client_that_leaves_after_ten_lines_frees_its_places(tmp_path: Path) -> None:
    with real_process(tmp_path / "log", fake_delay_seconds=0.005) as service:
        images = files(*(pictures.png(seed) for seed in range(200)))
        with httpx.stream("POST", f"{service.url}{URL}", files=images, timeout=60) as response:
            lines = response.iter_lines()
            assert [len(next(lines)) > 2 for _ in range(10)] == [True] * 10
        service.wait_for("certify_disconnects_total", 1)
        service.wait_for("certify_queue_depth", 0)
        service.wait_for("certify_in_flight", 0)
        answered = [e for e in service.log_entries() if e["message"] == "image" and "outcome" in e]
        assert 10 <= len(answered) < 100
        again = httpx.post(f"{service.url}{URL}", files=images[:3], timeout=60)
        assert len(lines_of(again.text)) == 3
