"""Spans of one request: every look with its votes, under the caller's own trace; and nothing that must not leave."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from certify.service import tracing
from certify.service.backends.fake import FakeBackend
from certify.service.errors import SettingsError
from tests import pictures
from tests.servers import SEED_KEY, in_process

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    pytest.importorskip("opentelemetry.sdk", reason="needs pip install 'certify[tracing]'")
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    tracing.configure("test", exporter)
    yield exporter
    tracing.shut_down()


@pytest.mark.anyio
async def test_every_look_is_a_span_below_the_requests_below_the_callers(spans: InMemorySpanExporter) -> None:
    async with in_process() as service:
        response = await service.client.post(
            "/certify",
            files={"image": pictures.png()},
            data={"samples": "2000"},
            headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
        )
    answer = response.json()
    *looks, request = spans.get_finished_spans()
    assert request.name == "POST /certify" and request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT and f"{request.context.trace_id:032x}" == TRACE
    facts = dict(request.attributes or {})
    assert facts == {
        "request_id": response.headers["x-request-id"],
        "outcome": answer["outcome"],
        "samples_used": answer["samples_used"],
    }
    assert len(looks) >= 4
    counted = 0
    for look in looks:
        assert look.name == "look" and look.parent is not None and look.parent.span_id == request.context.span_id
        attributes = dict(look.attributes or {})
        assert attributes.keys() == {"sigma", "purpose", "first", "count", "votes"}
        assert sum(attributes["votes"]) == attributes["count"]  # type: ignore[arg-type]
        counted += attributes["count"]  # type: ignore[operator]
    assert counted == answer["samples_used"]


@pytest.mark.anyio
async def test_a_refused_request_is_a_failed_span_that_quotes_nothing(spans: InMemorySpanExporter) -> None:
    secret = "4711-what-the-client-sent"
    async with in_process() as service:
        await service.client.post("/certify", files={"image": pictures.png()}, data={secret: "1", "radius": "0.25"})
        service.backend.failing = True
        await service.client.post("/certify", files={"image": pictures.png()})
    refused, failed = (span for span in spans.get_finished_spans() if span.name == "POST /certify")
    assert (refused.status.description, failed.status.description) == ("RequestError", "BackendUnavailable")
    written = "".join(span.to_json() for span in spans.get_finished_spans())
    assert secret not in written and SEED_KEY not in written
    assert base64.b64encode(pictures.png()).decode()[:40] not in written


@pytest.mark.anyio
async def test_without_tracing_nothing_is_made() -> None:
    async with in_process() as service:
        response = await service.client.post("/certify", files={"image": pictures.png()}, data={"samples": "960"})
    assert response.status_code == 200
    with tracing.span("look") as current:
        current.set_attribute("votes", [1])
    assert tracing._tracer is None


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
            await service.client.post("/v1/certify", files=files, data={"samples": "1000"}, headers=headers)
        return {headers.get("traceparent") for headers in seen}

    caller = f"00-{TRACE}-{PARENT}-01"
    assert await ask() == {None}
    assert await ask(traceparent=caller) == {caller}
    for broken in (caller[:-1], f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", caller.upper()):
        assert await ask(traceparent=broken) == {None}
    request.getfixturevalue("spans")
    ours = await ask(traceparent=caller)
    assert ours and all(each and each.startswith(f"00-{TRACE}-") and PARENT not in each for each in ours)
