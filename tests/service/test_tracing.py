"""Spans of one request: every look with its votes, under the caller's own trace; and nothing that must not leave."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from certify.service import __version__, tracing
from certify.service.backends.fake import FakeBackend
from certify.service.errors import BackendUnavailable, SettingsError
from tests import pictures
from tests.servers import SEED_KEY, in_process, real_process

pytest.importorskip("opentelemetry.sdk", reason="needs pip install 'certify[tracing]'")

from tests.service import otlp

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.anyio
async def test_every_look_is_a_span_below_the_requests_below_the_callers(spans: InMemorySpanExporter) -> None:
    headers = {"traceparent": CALLER, "tracestate": "vendor=1", "user-agent": "camera/1", "host": "certify:8000"}
    async with in_process() as service:
        response = await service.client.post(
            "/v1/certify", files={"image": pictures.png()}, data={"samples": "2000"}, headers=headers
        )
    answer = response.json()
    *looks, request = spans.get_finished_spans()
    assert request.name == "POST /v1/certify" and request.kind.name == "SERVER" and request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT and f"{request.context.trace_id:032x}" == TRACE
    assert request.context.trace_state == {"vendor": "1"}
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/certify",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/v1/certify",
        "network.protocol.version": "1.1",
        "server.address": "certify",
        "server.port": 8000,
        "client.address": "127.0.0.1",
        "user_agent.original": "camera/1",
        "certify.request_id": response.headers["x-request-id"],
        "certify.outcome": answer["outcome"],
        "certify.samples_used": answer["samples_used"],
    }
    assert len(looks) >= 4
    counted = 0
    for look in looks:
        assert look.name == "look" and look.parent is not None and look.parent.span_id == request.context.span_id
        attributes = {name.removeprefix("certify."): value for name, value in (look.attributes or {}).items()}
        assert attributes.keys() == {"sigma", "purpose", "first", "count", "votes"}
        assert sum(attributes["votes"]) == attributes["count"]  # type: ignore[arg-type]
        counted += attributes["count"]  # type: ignore[operator]
    assert counted == answer["samples_used"]


@pytest.mark.anyio
async def test_each_image_of_a_batch_is_a_span_around_its_looks(spans: InMemorySpanExporter) -> None:
    files = [("image", (f"{seed}.png", pictures.png(seed))) for seed in range(2)]
    async with in_process() as service:
        response = await service.client.post("/v1/certify/batch", files=files, data={"samples": "640"})
    answers = [json.loads(line)["answer"] for line in response.text.splitlines() if line]
    images = [span for span in spans.get_finished_spans() if span.name == "image"]
    (request,) = [span for span in spans.get_finished_spans() if span.kind.name == "SERVER"]
    assert request.name == "POST /v1/certify/batch"
    assert {image.parent.span_id for image in images if image.parent} == {request.context.span_id}
    said = {(image.attributes or {})["certify.request_id"]: image.attributes or {} for image in images}
    assert {key: value["certify.outcome"] for key, value in said.items()} == {a["id"]: a["outcome"] for a in answers}
    looks = [span for span in spans.get_finished_spans() if span.name == "look"]
    assert {look.parent.span_id for look in looks if look.parent} == {image.context.span_id for image in images}


@pytest.mark.anyio
async def test_an_answer_that_comes_as_events_is_said_of_its_request(spans: InMemorySpanExporter) -> None:
    async with in_process() as service:
        asked = {"files": {"image": pictures.png()}, "headers": {"accept": "text/event-stream"}}
        response = await service.client.post("/v1/certify", data={"samples": "640"}, **asked)  # type: ignore[arg-type]
    *looks, request = spans.get_finished_spans()
    assert "event: answer" in response.text and request.attributes is not None
    assert request.name == "POST /v1/certify" and 0 < int(str(request.attributes["certify.samples_used"])) <= 640
    assert {look.parent.span_id for look in looks if look.parent} == {request.context.span_id}


@pytest.mark.anyio
@pytest.mark.parametrize("root_path", ["", "/api"])
async def test_a_request_is_named_by_its_route_and_probes_are_not_traced(
    root_path: str, spans: InMemorySpanExporter
) -> None:
    async with in_process(root_path=root_path) as service:
        for method, path in (
            ("GET", "/info"), ("HEAD", "/info"), ("GET", "/nowhere/4711"), ("PUT", "/v1/certify"), ("BREW", "/info"),
            ("POST", "/v2/models/certify/infer"), ("GET", "/livez"), ("GET", "/readyz"), ("GET", "/metrics"),
        ):  # fmt: skip
            await service.client.request(method, root_path + path)
    named = [span.name for span in spans.get_finished_spans()]
    assert named == [
        "GET /info",
        "HEAD /info",
        "GET",
        "PUT /v1/certify",
        "_OTHER /info",
        "POST /v2/models/certify/infer",
    ]


@pytest.mark.anyio
async def test_only_what_the_service_is_to_blame_for_is_a_failed_span_and_none_quotes(
    spans: InMemorySpanExporter,
) -> None:
    secret = "4711-what-the-client-sent"

    class Away(FakeBackend):
        async def count_votes(self, *args: Any, **options: Any) -> Any:
            raise BackendUnavailable(secret)

    async with in_process(Away()) as service:
        await service.client.post("/v1/certify", files={"image": pictures.png()}, data={secret: "1"})
        await service.client.post("/v1/certify", files={"image": pictures.png()})
    refused, failed = (span for span in spans.get_finished_spans() if span.kind.name == "SERVER")
    status = "http.response.status_code"
    assert refused.attributes is not None and failed.attributes is not None
    assert (refused.attributes[status], refused.status.status_code.name) == (422, "UNSET")
    assert "error.type" not in refused.attributes
    assert (failed.attributes[status], failed.status.status_code.name) == (503, "ERROR")
    assert failed.attributes["error.type"] == "backend_unavailable"
    (look,) = (span for span in spans.get_finished_spans() if span.name == "look")
    assert look.attributes is not None and look.attributes["error.type"] == "BackendUnavailable"
    written = "".join(span.to_json() for span in spans.get_finished_spans())
    assert secret not in written and SEED_KEY not in written
    assert base64.b64encode(pictures.png()).decode()[:40] not in written


@pytest.mark.parametrize(("error", "status"), [(asyncio.CancelledError, "UNSET"), (RuntimeError, "ERROR")])
def test_what_is_cancelled_as_by_a_deadline_has_not_failed(
    error: type[BaseException], status: str, spans: InMemorySpanExporter
) -> None:
    with pytest.raises(error), tracing.span("look"):
        raise error("4711")
    (look,) = spans.get_finished_spans()
    assert look.status.status_code.name == status and "4711" not in look.to_json()


@pytest.mark.anyio
async def test_without_tracing_nothing_is_made() -> None:
    async with in_process() as service:
        response = await service.client.post("/certify", files={"image": pictures.png()}, data={"samples": "960"})
    assert response.status_code == 200
    with tracing.span("look") as current:
        current.set({"certify.votes": [1]})
        current.fail("Error")
    assert tracing.current() is None and not tracing.is_on()


def test_without_opentelemetry_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"CERTIFY_TRACING: .*certify\[tracing\]"):
        tracing.configure("test")


@pytest.mark.anyio
async def test_calls_to_the_backend_carry_the_current_span_or_else_the_callers(
    request: pytest.FixtureRequest,
) -> None:
    seen: list[dict[str, str]] = []

    class Noting(FakeBackend):
        async def count_votes(self, *args: Any, **options: Any) -> Any:
            seen.append(tracing.outgoing())
            return await super().count_votes(*args, **options)

    async def ask(**headers: str) -> set[str | None]:
        seen.clear()
        async with in_process(Noting()) as service:
            files = {"image": pictures.png()}
            sent = {name: value.encode("latin-1") for name, value in headers.items()}
            await service.client.post("/v1/certify", files=files, data={"samples": "1000"}, headers=sent)
        return {headers.get("traceparent") for headers in seen}

    assert await ask() == {None}
    assert await ask(traceparent=CALLER) == {CALLER}
    assert await ask(traceparent=CALLER, tracestate="a=1") == {CALLER} and seen[0]["tracestate"] == "a=1"
    assert await ask(traceparent=CALLER, tracestate="\u00e9") == {CALLER} and "tracestate" not in seen[0]
    later = f"01-{TRACE}-{PARENT}-01-more"
    assert await ask(traceparent=later) == {later}
    for broken in (CALLER[:-1], f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", CALLER.upper(), CALLER + "-x"):
        assert await ask(traceparent=broken) == {None}
    request.getfixturevalue("spans")
    ours = await ask(traceparent=CALLER)
    assert ours and all(each and each.startswith(f"00-{TRACE}-") and PARENT not in each for each in ours)


@pytest.mark.anyio
async def test_the_log_and_the_exemplars_name_the_trace(spans: InMemorySpanExporter, log_stream: io.StringIO) -> None:
    async with in_process() as service:
        await service.client.post("/v1/certify", files={"image": pictures.png()}, data={"samples": "640"})
        service.backend.failing = True
        await service.client.post("/v1/certify", files={"image": pictures.png()}, headers={"traceparent": CALLER})
        accept = {"accept": "application/openmetrics-text"}
        exposed = (await service.client.get("/metrics", headers=accept)).text
    (first, second) = (span for span in spans.get_finished_spans() if span.kind.name == "SERVER")
    entries = [json.loads(line) for line in log_stream.getvalue().splitlines()]
    lines = [entry for entry in entries if entry["message"] == "request" and entry["method"] == "POST"]
    ids = [(f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}") for span in (first, second)]
    assert [(line["trace_id"], line["span_id"]) for line in lines] == ids and ids[1][0] == TRACE
    (warned,) = [entry for entry in entries if "the backend failed" in entry["message"]]
    assert warned["trace_id"] == TRACE
    counted = {
        sample.name: sample.exemplar.labels
        for family in text_string_to_metric_families(exposed)
        for sample in family.samples
        if sample.exemplar
    }
    assert counted["certify_samples_used_bucket"] == {"trace_id": ids[0][0]}
    assert counted["certify_errors_total"] == {"trace_id": TRACE}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("protocol", "receiver"), [("grpc", otlp.over_grpc), ("http/protobuf", otlp.over_http)])
def test_spans_reach_a_collector_by_the_protocol_that_the_environment_names(
    protocol: str,
    receiver: Callable[[], AbstractContextManager[otlp.Collector]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if protocol == "grpc":
        pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs pip install 'certify[tracing]'")
    with receiver() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "certify-green")
        with real_process(tmp_path / "log", tracing="true") as service:
            asked = {"files": {"image": pictures.png()}, "data": {"samples": "640"}}
            answer = httpx.post(f"{service.url}/v1/certify", headers={"traceparent": CALLER}, **asked)  # type: ignore[arg-type]
            collector.wait(lambda: collector.named("POST /v1/certify"))
            # What is not sent yet is sent at the end.
            monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100000")
            httpx.get(f"{service.url}/info")
        assert answer.status_code == 200 and service.popen.returncode == 0
        (request,) = collector.named("POST /v1/certify")
        assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
        assert otlp.attributes(request)["http.response.status_code"] == 200
        looks = collector.named("look")
        assert looks and {look.parent_span_id for look in looks} == {request.span_id}
        assert collector.named("GET /info")
        assert {resource["service.name"] for resource in collector.resources} == {"certify-green"}
        assert {resource["service.version"] for resource in collector.resources} == {__version__}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_collector_that_is_away_does_not_hold_the_end(
    protocol: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if protocol == "grpc":
        pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs pip install 'certify[tracing]'")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with real_process(tmp_path / "log", tracing="true") as service:
        assert httpx.get(f"{service.url}/info").status_code == 200
        service.popen.terminate()
        assert service.popen.wait() == 0
        entries = service.log_entries()
    # Nothing comes after it: what OpenTelemetry would still try is left.
    assert str(entries[-1]["message"]).startswith("the last spans are lost")


def test_another_protocol_stops_the_start_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")
    with pytest.raises(
        SettingsError, match="OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: expected grpc or http/protobuf, got 'ht"
    ):
        tracing.configure("test")
    assert not tracing.is_on()
