"""What browsers, proxies and programs need around every answer: origins, HEAD, prefixes, Retry-After, times."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from certify.service.backends.fake import FakeBackend
from certify.service.errors import SettingsError
from certify.service.settings import load_settings
from tests import pictures
from tests.answer_rules import check
from tests.servers import InProcess, in_process

pytestmark = pytest.mark.anyio

PAGE = "https://app.example"
GETS = (
    "/",
    "/info",
    "/livez",
    "/readyz",
    "/metrics",
    "/docs",
    "/docs/digit.png",
    "/docs/openapi.json",
    "/openapi.json",
)


def form(**fields: str) -> dict[str, Any]:
    return {"files": {"image": ("a.png", pictures.png())}, "data": fields}


async def preflight(service: InProcess, origin: str, headers: str = "content-type", method: str = "POST") -> Any:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return await service.client.options("/v1/certify", headers=asked)


async def test_an_allowed_page_may_ask_and_reads_answers_and_errors() -> None:
    async with in_process(allowed_origins=f"http://localhost:3000, {PAGE}") as service:
        asked = await preflight(service, PAGE, "authorization,content-type,x-request-id,traceparent")
        assert asked.status_code == 200
        assert asked.headers["Access-Control-Allow-Origin"] == PAGE
        assert "POST" in asked.headers["Access-Control-Allow-Methods"]
        # What libraries add to a page's requests is the page's own affair.
        added = await preflight(service, PAGE, "baggage,sentry-trace,x-requested-with")
        assert added.headers["Access-Control-Allow-Headers"] == "baggage,sentry-trace,x-requested-with"
        answer = await service.client.post("/v1/certify", **form(samples="1000"), headers={"Origin": PAGE})
        refused = await service.client.post("/v1/certify", **form(samples="1"), headers={"Origin": PAGE})
        missing = await service.client.get("/nowhere", headers={"Origin": PAGE})
        object.__setattr__(service.gateway, "seed_key", "not bytes")
        fault = await service.client.post("/v1/certify", **form(), headers={"Origin": PAGE})
        assert [each.status_code for each in (answer, refused, missing, fault)] == [200, 422, 404, 500]
        for each in (answer, refused, missing, fault):
            assert each.headers["Access-Control-Allow-Origin"] == PAGE and "Origin" in each.headers["Vary"]
            assert {"Retry-After", "X-Request-ID"} <= set(each.headers["Access-Control-Expose-Headers"].split(", "))


async def test_a_page_that_is_not_allowed_is_told_so_and_no_work_is_done() -> None:
    async with in_process(allowed_origins=PAGE) as service:
        for origin in ("https://elsewhere.example", PAGE + ".example", "http://app.example", "null"):
            refused = await preflight(service, origin)
            assert (refused.status_code, refused.json()["code"]) == (403, "origin_not_allowed")
            assert "Access-Control-Allow-Origin" not in refused.headers
        deleting = await preflight(service, PAGE, method="DELETE")
        assert (deleting.status_code, deleting.json()["code"]) == (405, "method_not_allowed")
        assert deleting.headers["Allow"] == "GET, HEAD, POST"
        assert service.backend.calls == 0
        other = await service.client.get("/info", headers={"Origin": "https://elsewhere.example"})
        assert "Access-Control-Allow-Origin" not in other.headers


async def test_without_origins_nothing_is_allowed_and_with_a_star_everything() -> None:
    async with in_process() as service:
        assert (await preflight(service, PAGE)).json()["code"] == "method_not_allowed"
        assert (
            "Access-Control-Allow-Origin" not in (await service.client.get("/info", headers={"Origin": PAGE})).headers
        )
    async with in_process(allowed_origins="*") as service:
        assert (await preflight(service, PAGE)).headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    "text",
    ["app.example", "https://app.example/", "https://App.example", "https://a b", "*.example"]
    + ["https://app.example:443", "http://app.example:80", "https://app.example:08443", "https://app.example:65536"],
)
def test_an_origin_that_no_browser_sends_stops_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match="CERTIFY_ALLOWED_ORIGINS"):
        load_settings(allowed_origins=text)


def test_origins_with_ports_that_browsers_write_are_taken() -> None:
    text = "http://app.example:443, https://app.example:80,http://[::1]:65535,chrome-extension://abc"
    assert len(load_settings(allowed_origins=text).origins) == 4


@pytest.mark.parametrize("text", ["api", "/api/", "//", "/a b", "/"])
def test_a_prefix_begins_with_a_slash_and_does_not_end_with_one(text: str) -> None:
    with pytest.raises(SettingsError, match="CERTIFY_ROOT_PATH"):
        load_settings(root_path=text)


async def test_head_is_answered_wherever_get_is() -> None:
    async with in_process() as service:
        for path in GETS:
            whole, head = await service.client.get(path), await service.client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["Content-Type"] == whole.headers["Content-Type"]
        assert (await service.client.head("/v1/certify")).status_code == 405
        assert (await service.client.head("/nowhere")).status_code == 404


@pytest.mark.parametrize("stripped", [True, False], ids=["stripped", "kept"])
async def test_behind_a_prefix_whether_or_not_the_proxy_takes_it_away(stripped: bool) -> None:
    prefix = "" if stripped else "/api/certify"
    async with in_process(root_path="/api/certify") as service:
        for path in GETS:
            assert (await service.client.get(prefix + path)).status_code == 200
        assert (await service.client.post(f"{prefix}/v1/certify", **form(samples="1000"))).status_code == 200
        assert (await service.client.get(f"{prefix}/nowhere")).status_code == 404
        schema = (await service.client.get(f"{prefix}/openapi.json")).json()
        assert schema["servers"] == [{"url": "/api/certify"}]
        page = (await service.client.get(f"{prefix}/docs")).text
        assert "'/api/certify/docs/openapi.json'" in page and '"/api/certify/docs/swagger-ui-bundle.js"' in page


async def test_a_prefix_may_be_called_like_a_path() -> None:
    async with in_process(root_path="/certify") as service:
        for path in ("/certify", "/certify/certify", "/v1/certify", "/certify/v1/certify"):
            assert (await service.client.post(path, **form(samples="1000"))).status_code == 200, path
        for path in ("/certify", "/certify/", "/"):
            assert (await service.client.get(path)).headers["Content-Type"].startswith("text/html"), path


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_a_slash_at_the_end_sends_nobody_elsewhere(prefix: str) -> None:
    async with in_process(root_path=prefix) as service:
        answer = await service.client.post(f"{prefix}/v1/certify/", **form(samples="1000"))
        assert answer.status_code == 200
        assert (await service.client.get(f"{prefix}/info/")).status_code == 200
        assert (await service.client.get(f"{prefix}/")).headers["Content-Type"].startswith("text/html")
        assert (await service.client.get(f"{prefix}/nowhere/")).json()["code"] == "not_found"


async def test_both_paths_give_the_same_answer() -> None:
    async with in_process() as service:
        answers = [
            (await service.client.post(path, **form(samples="2000"))).json() for path in ("/v1/certify", "/certify")
        ]
        one, other = ({k: v for k, v in check(each).items() if k not in ("id", "timing")} for each in answers)
        assert one == other


async def test_draining_says_when_to_come_again_and_ends_its_connections() -> None:
    async with in_process() as service:
        assert "Connection" not in (await service.client.get("/livez")).headers
        service.gateway.admission.drain()
        for response in (await service.client.post("/v1/certify", **form()), await service.client.get("/readyz")):
            assert (response.status_code, response.json()["code"]) == (503, "draining")
            assert int(response.headers["Retry-After"]) >= 1
            assert response.headers["Connection"] == "close"
        assert (await service.client.get("/livez")).headers["Connection"] == "close"


async def test_a_backend_that_is_away_says_when_to_come_again() -> None:
    async with in_process() as service:
        service.backend.failing = True
        for response in (await service.client.post("/v1/certify", **form()), await service.client.get("/readyz")):
            assert (response.status_code, response.json()["code"]) == (503, "backend_unavailable")
            assert int(response.headers["Retry-After"]) >= 1


async def test_an_answer_and_an_error_say_what_the_time_went_to() -> None:
    async with in_process(FakeBackend(delay_seconds=0.02)) as service:
        answer = await service.client.post("/v1/certify", **form(samples="1000"))
        times = server_timing(answer)
        assert list(times) == ["body", "parsing", "decoding", "sampling", "total"]
        assert times["total"] >= times["sampling"] >= 1000 * answer.json()["timing"]["sampling_seconds"] - 0.1 > 0
        refused = await service.client.post("/v1/certify", **form(radius="-1"))
        assert list(server_timing(refused)) == ["body", "parsing", "total"]
        assert refused.json()["timing"]["sampling_seconds"] == 0.0 < refused.json()["timing"]["total_seconds"]
        service.backend.delay_seconds = 3600
        late = (await service.client.post("/v1/certify", **form(deadline_ms="50"))).json()
        assert late["code"] == "deadline_exceeded"
        assert 0.01 < late["timing"]["sampling_seconds"] <= late["timing"]["total_seconds"]


async def test_info_takes_no_query_and_probes_do_not_mind_one() -> None:
    async with in_process() as service:
        refused = await service.client.get("/info?verbose=1")
        assert (refused.status_code, refused.json()["field"]) == (422, "verbose")
        assert (await service.client.get("/livez?from=balancer")).status_code == 200


def server_timing(response: httpx.Response) -> dict[str, float]:
    entries = (entry.split(";dur=") for entry in response.headers["Server-Timing"].split(", "))
    return {name: float(milliseconds) for name, milliseconds in entries}
