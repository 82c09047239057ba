"""Every bad request of the contract gets its status and code, over HTTP, and leaves the service as it was."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest
from jsonschema import validate
from PIL import Image

from tests import pictures
from tests.answer_rules import check
from tests.http.test_openapi import SCHEMA, problem_contents
from tests.servers import in_process

pytestmark = pytest.mark.anyio

IMAGE = pictures.png()
JSON = {"Content-Type": "application/json"}


def form(image: bytes = IMAGE, **fields: Any) -> dict[str, Any]:
    return {"files": {"image": ("a.png", image)}, "data": fields}


def body(**fields: Any) -> dict[str, Any]:
    return {"json": {"image": base64.b64encode(IMAGE).decode(), **fields}}


def raw(text: str) -> dict[str, Any]:
    image = base64.b64encode(IMAGE).decode()
    return {"content": text.replace("IMAGE", f'"image": "{image}"').encode(), "headers": JSON}


def transparent() -> bytes:
    image = pictures.gray().convert("RGBA")
    image.putalpha(7)
    return pictures.encoded(image)


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "no image": ({"files": {"radius": (None, "1")}}, 422, "missing_field"),
    "no image in JSON": ({"json": {}}, 422, "missing_field"),
    "no body": ({"headers": JSON}, 400, "malformed_body"),
    "no body and no type": ({}, 415, "unsupported_format"),
    "not JSON": ({"content": b"{image:", "headers": JSON}, 400, "malformed_body"),
    "nested JSON": ({"content": b"[" * 100_000, "headers": JSON}, 400, "malformed_body"),
    "not a form": (
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        400,
        "malformed_body",
    ),
    "plain text": ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "unsupported_format"),
    "bytes that are no image": (form(b"not an image"), 415, "unsupported_format"),
    "no bytes": (form(b""), 415, "unsupported_format"),
    "no bytes in JSON": ({"json": {"image": ""}}, 415, "unsupported_format"),
    "a query": ({**form(), "params": {"radius": "0.3"}}, 422, "unknown_field"),
    "a file in another field": ({"files": {"file": ("a.png", IMAGE)}}, 422, "unknown_field"),
    "a form without a boundary": (
        {"content": b"--b--", "headers": {"Content-Type": "multipart/form-data"}},
        400,
        "malformed_body",
    ),
    "truncated PNG": (form(IMAGE[:-30]), 422, "image_undecodable"),
    "bad base64": ({"json": {"image": "***"}}, 422, "image_undecodable"),
    "bomb": (form(pictures.png_bomb(20_000, 20_000)), 422, "image_too_many_pixels"),
    "WebP bomb": (form(pictures.webp_bomb()), 422, "image_too_many_pixels"),
    "animated PNG": (form(pictures.animation("PNG")), 422, "image_multiframe"),
    "animated WebP": (form(pictures.animation("WEBP")), 422, "image_multiframe"),
    "CMYK": (form(pictures.encoded(pictures.gray().convert("CMYK"), "JPEG")), 415, "unsupported_format"),
    "16-bit": (form(pictures.encoded(Image.fromarray(np.zeros((8, 8), np.uint16)))), 415, "unsupported_format"),
    "transparent": (form(transparent()), 415, "unsupported_format"),
    "wrong size": (form(pictures.png(size=(28, 28))), 422, "image_wrong_size"),
    "unknown field": (body(epsilon=0.1), 422, "unknown_field"),
    "unknown form field": (form(epsilon="0.1"), 422, "unknown_field"),
    "surrogate field": (raw('{IMAGE, "\\ud800": 1}'), 422, "unknown_field"),
    "surrogate value": (raw('{IMAGE, "norm": "\\ud800"}'), 422, "out_of_range"),
    "NaN": (raw('{IMAGE, "radius": NaN}'), 422, "out_of_range"),
    "NaN in a form": (form(radius="nan"), 422, "out_of_range"),
    "infinite": (raw('{IMAGE, "alpha": Infinity}'), 422, "out_of_range"),
    "infinite by size": (raw('{IMAGE, "radius": 1e999}'), 422, "out_of_range"),
    "negative radius": (body(radius=-0.5), 422, "out_of_range"),
    "zero radius": (body(radius=0), 422, "out_of_range"),
    "negative samples": (form(samples="-1"), 422, "out_of_range"),
    "huge samples": (body(samples=10**30), 422, "out_of_range"),
    "samples of 5,000 digits": (raw('{IMAGE, "samples": ' + "9" * 5000 + "}"), 422, "out_of_range"),
    "samples over the cap": (body(samples=100_001), 422, "out_of_range"),
    "samples that is a bool": (body(samples=True), 422, "out_of_range"),
    "samples that is text": (body(samples="1000"), 422, "out_of_range"),
    "alpha too large": (body(alpha=0.5), 422, "out_of_range"),
    "alpha too small": (body(alpha=1e-10), 422, "out_of_range"),
    "threshold too small": (body(threshold=0.4), 422, "out_of_range"),
    "threshold of one": (body(threshold=1.0), 422, "out_of_range"),
    "threshold next to one": (body(threshold=1 - 2**-53, sigmas=[0.5], final="threshold"), 422, "out_of_range"),
    "two thresholds for three sigmas": (body(threshold=[0.5, 0.5]), 422, "out_of_range"),
    "unknown norm": (body(norm="l3"), 422, "out_of_range"),
    "deadline in the past": (body(deadline_ms=-1), 422, "out_of_range"),
    "unknown sigma": (body(sigmas=[0.5, 0.3]), 422, "unknown_sigma"),
    "doubled sigma": (body(sigmas=[0.5, 0.5]), 422, "out_of_range"),
    "no sigma": (body(sigmas=[]), 422, "out_of_range"),
    "samples that cannot certify": (body(samples=10), 422, "budget_too_small"),
    "alpha that cannot certify": (
        body(samples=128, alpha=1e-9, threshold=0.9, final="threshold"),
        422,
        "budget_too_small",
    ),
    "unreachable radius": (body(radius=10), 422, "radius_unreachable"),
    "huge radius": (body(radius=1e300), 422, "radius_unreachable"),
    "unreachable radius in linf": (body(radius=1, norm="linf"), 422, "radius_unreachable"),
    "body too large": (form(bytes(2**20 + 1)), 413, "body_too_large"),
}


def check_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code), problem
    assert problem["type"] == f"urn:certify:problem:{code}"
    assert problem["instance"] == f"urn:uuid:{response.headers['X-Request-ID']}"
    assert problem["title"]
    assert 0.0 <= problem["timing"]["sampling_seconds"] <= problem["timing"]["total_seconds"]
    assert status != 422 or problem["field"]
    # Every hint is in the API's document, as what it is.
    names = {int(name): content["schema"]["$ref"].rsplit("/", 1)[1] for _, name, content in problem_contents()}
    if status in names:
        schema = SCHEMA["components"]["schemas"][names[status]]
        validate(problem, {**schema, "additionalProperties": False, "components": SCHEMA["components"]})
    assert problem["detail"].isascii()
    return dict(problem)


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_request_gets_its_code_and_leaves_the_service_as_it_was(name: str) -> None:
    request, status, code = BAD[name]
    async with in_process(max_body_bytes=2**20) as service:
        check_problem(await service.client.post("/certify", **request), status, code)
        assert await service.metric(f'certify_errors_total{{code="{code}"}}') == 1
        assert service.backend.calls == 0
        good = await service.client.post("/certify", **form(samples="1000"))
        assert good.status_code == 200
        check(good.json())
        assert await service.metric("certify_queue_depth") == 0
        assert await service.metric("certify_in_flight") == 0


async def test_hints_are_members_of_the_problem() -> None:
    async with in_process() as service:
        small = (await service.client.post("/certify", **body(samples=10))).json()
        assert (await service.client.post("/certify", **body(samples=small["min_samples"]))).status_code == 200
        far = (await service.client.post("/certify", **body(radius=100))).json()
        assert (await service.client.post("/certify", **body(radius=far["max_radius"]))).status_code == 200


async def test_paths_and_methods_that_do_not_exist_are_problems_too() -> None:
    async with in_process() as service:
        check_problem(await service.client.get("/nowhere"), 404, "not_found")
        check_problem(await service.client.get("/certify\u00e9/%00"), 404, "not_found")
        response = await service.client.get("/certify")
        check_problem(response, 405, "method_not_allowed")
        assert response.headers["Allow"] == "POST"
        response = await service.client.put("/info")
        check_problem(response, 405, "method_not_allowed")
        assert response.headers["Allow"] == "GET, HEAD"


async def test_every_refusal_may_be_held_back_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    async def hold_back(prompt: int) -> None:
        nonlocal calls
        calls += 1

    async with in_process() as service:
        monkeypatch.setattr(service.gateway.admission, "hold_back", hold_back)
        for refused in (
            service.client.get("/nowhere"),
            service.client.get("/certify"),
            service.client.get("/info?verbose=1"),
            service.client.post("/certify", content=b"", headers=JSON),
            service.client.post("/v1/certify", **body(norm="l7")),
            service.client.post("/v1/certify", **body(norm="l7"), headers={"Accept": "text/event-stream"}),
            service.client.post("/v1/certify/batch", content=b"{}", headers=JSON),
            service.client.post("/v1/preview", content=b"{}", headers=JSON),  # 501: this backend has none
            service.client.post("/v2/models/certify/infer", content=b"{}", headers=JSON),
        ):
            before = calls
            response = await refused
            assert (response.is_error, calls - before) == (True, 1), response.text
        for path in ("/livez", "/readyz", "/metrics", "/info"):
            assert (await service.client.get(path)).status_code == 200
        assert (await service.client.post("/certify", **body())).status_code == 200
        service.gateway.admission.drain()
        assert (await service.client.post("/certify", **body())).status_code == 503
        assert (await service.client.get("/readyz")).status_code == 503
        assert calls == before + 1


async def test_a_thousand_different_bad_requests_add_no_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certify.service.http.admission._HELD_BACK_SECONDS", 0.0)
    async with in_process() as service:
        before = (await service.metrics_text()).count("\n")
        for number in range(1000):
            match number % 5:
                case 0:
                    await service.client.get(f"/nowhere/{number}")
                case 1:
                    await service.client.post("/certify", **body(**{f"field{number}": 1}))
                case 2:
                    await service.client.post("/certify", **body(sigmas=[0.5 + number]))
                case 3:
                    await service.client.post("/certify", **body(norm=f"l{number}"))
                case 4:
                    await service.client.request(f"METHOD{number}", "/certify")
        assert (await service.metrics_text()).count("\n") == before
        assert await service.metric('certify_errors_total{code="unknown_sigma"}') == 200


async def test_an_unexpected_fault_is_a_500_problem_that_tells_nothing_and_keeps_no_place() -> None:
    async with in_process() as service:
        object.__setattr__(service.gateway, "seed_key", "not bytes")
        response = await service.client.post("/certify", **form())
        assert response.status_code == 500
        check_problem(response, 500, "internal_error")
        assert "not bytes" not in response.text
        assert await service.metric("certify_queue_depth") == 0
        assert await service.metric("certify_in_flight") == 0


async def test_want_of_memory_is_the_services_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> object:
        raise MemoryError

    monkeypatch.setattr("PIL.Image.open", full)
    async with in_process() as service:
        response = await service.client.post("/certify", **form())
        check_problem(response, 503, "out_of_memory")
        assert int(response.headers["Retry-After"]) >= 1
        assert await service.metric("certify_queue_depth") == 0


def test_the_list_has_every_code_that_a_request_alone_can_cause() -> None:
    from certify.service.http.problems import CODES

    not_by_a_request = {
        "not_found",
        "method_not_allowed",
        "origin_not_allowed",  # of a preflight: test_front.py
        "unauthorized",  # only where there are keys: test_clients.py
        "queue_full",
        "budget_spent",
        "internal_error",
        "backend_unavailable",
        "out_of_memory",
        "draining",
        "deadline_exceeded",
        "preview_unavailable",  # of a backend that shows nothing: test_previews.py
    }
    assert {code for _, _, code in BAD.values()} == set(CODES) - not_by_a_request
    assert all(CODES[code].status == status for _, status, code in BAD.values())
