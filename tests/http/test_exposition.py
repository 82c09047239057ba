"""What a scrape gets, by what it accepts; a real Prometheus' word on it is in tests/deploy/test_monitoring.py."""

from __future__ import annotations

import gzip

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from certify.service.http.exposition import TEXT, expose
from tests import pictures
from tests.servers import in_process

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# What Prometheus 2.53 and 3 send.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("certify_asked", "Asked.", registry=registry).inc(exemplar={"trace_id": "a" * 32})
    Histogram("certify_taken_seconds", "Taken.", registry=registry, buckets=(1, 10)).observe(2, {"trace_id": "b" * 32})
    return registry


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        (BROWSER, TEXT),
        ("text/plain", TEXT),
        ("application/json", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=0.3, text/plain;q=0.4", TEXT),
        ("application/openmetrics-text;q=much", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; version=9.9.9", OPENMETRICS),
        *((each, OPENMETRICS) for each in PROMETHEUS),
    ],
)
def test_the_format_is_the_one_that_is_accepted(accept: str, kind: str, registry: CollectorRegistry) -> None:
    made = expose(registry, accept=accept, accept_encoding="")
    assert made.headers == {"Content-Type": kind, "Vary": "Accept, Accept-Encoding"}
    families = list((openmetrics if kind == OPENMETRICS else plain)(made.body.decode()))
    assert [family.name for family in families] == ["certify_asked", "certify_taken_seconds"]
    samples = [sample for family in families for sample in family.samples]
    assert not any(sample.name.endswith("_created") for sample in samples)
    exemplars = {sample.name: sample.exemplar.labels["trace_id"][0] for sample in samples if sample.exemplar}
    assert exemplars == ({"certify_asked_total": "a", "certify_taken_seconds_bucket": "b"} if kind != TEXT else {})


@pytest.mark.parametrize(
    ("accept_encoding", "packed"),
    [
        ("", False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("identity", False),
        ("gzipped", False),
    ],
)
def test_it_is_packed_where_that_is_taken(accept_encoding: str, packed: bool, registry: CollectorRegistry) -> None:
    bare = expose(registry, accept="", accept_encoding="")
    made = expose(registry, accept="", accept_encoding=accept_encoding)
    assert (made.headers.get("Content-Encoding") == "gzip") is packed
    assert (gzip.decompress(made.body) if packed else made.body) == bare.body


@pytest.mark.anyio
async def test_the_service_tells_of_its_process_and_of_traces_that_are_kept() -> None:
    kept, dropped = f"00-{'a' * 32}-{'b' * 16}-01", f"00-{'c' * 32}-{'d' * 16}-00"
    async with in_process() as service:
        for traceparent in (kept, dropped):
            files, headers = {"image": pictures.png()}, {"traceparent": traceparent}
            await service.client.post("/v1/certify", files=files, data={"samples": "640"}, headers=headers)
        response = await service.client.get("/metrics", headers={"Accept": PROMETHEUS[1]})
    assert response.headers["Content-Type"] == OPENMETRICS and response.headers["Content-Encoding"] == "gzip"
    families = {family.name: family for family in openmetrics(response.text)}
    for name in ("cpu_seconds", "resident_memory_bytes", "start_time_seconds", "open_fds", "max_fds"):
        assert families[f"process_{name}"].samples[0].value > 0
    named = [
        (sample.name, sample.exemplar.labels)
        for family in families.values()
        for sample in family.samples
        if sample.exemplar
    ]
    assert ("certify_request_seconds_bucket", {"trace_id": "a" * 32}) in named
    assert {str(labels) for _, labels in named} == {str({"trace_id": "a" * 32})}
