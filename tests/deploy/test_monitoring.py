"""Rules and dashboard on a real Prometheus, which scrapes a real gateway and, where one runs, a real Triton."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from certify.models.triton.server import free_ports
from tests import pictures
from tests.deploy.conftest import CHART, EVERYTHING, ROOT, groups, of, render, tool
from tests.servers import Process, real_gateway, real_process

if TYPE_CHECKING:
    from certify.models.triton.server import TritonServer

yaml = pytest.importorskip("yaml")
DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())
RULE: dict[str, Any] = {
    "for": "3s",
    "windows": {"short": "12s", "long": "60s", "week": "1w"},
    "gatewaySelector": 'namespace="ml", job="certify"',
}


def expressions() -> list[tuple[str, str]]:
    """Every PromQL expression of the dashboard, the autoscalers and the runbook, with its place."""
    found = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    for scaler in of(render(EVERYTHING), "ScaledObject"):
        found += [(scaler["metadata"]["name"], trigger["metadata"]["query"]) for trigger in scaler["spec"]["triggers"]]
    runbook = (ROOT / "docs" / "operations.md").read_text()
    for block in re.findall(r"```promql\n(.*?)```", runbook, re.DOTALL):
        found += [("runbook", line) for line in block.splitlines()]
    return found


# Where there is no data here, and why.
WITHOUT_DATA = {
    "nv_gpu_": ["GPU utilization", "GPU memory", "GPU power"],  # there is no GPU
    "offset 1w": ["Abstention rate now, and a week ago", "runbook", "runbook", "runbook"],  # nor was a Prometheus then
}
# What a Prometheus operator adds to each target.
OPERATOR = {"namespace": "ml", "service": "release-certify-gateway"}


def test_operations_names_every_metric(gateway: Process) -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for family in text_string_to_metric_families(httpx.get(f"{gateway.url}/metrics").text):
        assert f"`{family.name}" in text, family.name


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        return list(answer["data"]["result"])

    def value(self, expression: str) -> float | None:
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> set[str]:
        alerts = httpx.get(f"{self.url}/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def wait(condition: Callable[[], bool], what: Callable[[], object], seconds: float = 240) -> None:
    """Many times what it takes, so that a busy machine decides nothing."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s for {what()}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with real_process(tmp_path_factory.mktemp("gateway") / "log") as process:
        yield process


@pytest.fixture(scope="module")
def triton(request: pytest.FixtureRequest) -> TritonServer | None:
    """None where no real server runs; the rest is tested all the same."""
    try:
        server: TritonServer = request.getfixturevalue("triton_server")
    except pytest.skip.Exception:
        return None
    return server


@pytest.fixture(scope="module")
def prometheus(
    gateway: Process, triton: TritonServer | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    binary = tool("prometheus")
    folder, [port] = tmp_path_factory.mktemp("prometheus"), free_ports(1)
    targets = [] if triton is None else [f"127.0.0.1:{triton.metrics_port}"]
    (folder / "rules.yml").write_text(yaml.safe_dump(groups(**RULE)))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {
                "job_name": "certify",
                "static_configs": [{"targets": [f"127.0.0.1:{gateway.port}"], "labels": OPERATOR}],
            },
            {
                "job_name": "certify-triton",
                "static_configs": [{"targets": targets, "labels": {**OPERATOR, "service": "release-certify-triton"}}],
            },
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [binary, "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}"]
    composed = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]["prometheus"]["command"]
    command += [flag for flag in composed if flag.startswith("--enable-feature=")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--storage.tsdb.path={folder / 'data'}"], cwd=folder, stderr=log)
    server = Prometheus(f"http://127.0.0.1:{port}")

    def ready() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return httpx.get(f"{server.url}/-/ready").is_success
        except httpx.TransportError:
            return False

    try:
        wait(ready, lambda: "Prometheus")
        yield server
    finally:
        process.terminate()
        process.wait()


def certify(gateway: Process, seed: int, traceparent: str = "", **fields: str) -> dict[str, Any]:
    files, data = {"image": pictures.png(seed)}, {"samples": "960", **fields}
    headers = {"traceparent": traceparent}
    answer = httpx.post(f"{gateway.url}/certify", files=files, data=data, headers=headers, timeout=60)
    return dict(answer.json())


@pytest.mark.slow
def test_abstentions_move_the_recorded_rate_to_the_right_number_and_fire_the_alert(
    gateway: Process, prometheus: Prometheus
) -> None:
    wait(lambda: prometheus.value('sum(certify_requests_total{job="certify"})') == 0, lambda: "a first scrape")
    # The fake backend favours a class of each image's own: a plurality at the finest scale certifies, a threshold
    # of .99 at the coarsest never.
    sure = {"sigmas": "0.25", "threshold": "0.5"}
    hopeless = {"sigmas": "1.0", "threshold": "0.99", "final": "threshold"}
    outcomes = [certify(gateway, seed, **sure)["outcome"] for seed in range(20)]
    outcomes += [certify(gateway, seed, **hopeless)["outcome"] for seed in range(20, 40)]
    share = outcomes.count("abstained") / len(outcomes)
    assert 0.4 <= share <= 0.6

    def recorded() -> bool:
        value = prometheus.value("bundle:certify_abstentions:ratio_long")
        return value is not None and abs(value - share) < 0.01

    wait(recorded, lambda: f"an abstention rate of {share}")
    names = {"name": "fake", "job": "certify", "namespace": "ml"}
    assert names.items() <= prometheus.query("bundle:certify_abstentions:ratio_long")[0]["metric"].items()

    def fires() -> bool:
        certify(gateway, int(time.monotonic() * 1000) % 10_000, **hopeless)
        return "CertifyAbstentionHigh" in prometheus.firing()

    wait(fires, lambda: "the alert")
    assert "CertifyNotReady" not in prometheus.firing() and "CertifyDigestMismatch" not in prometheus.firing()


@pytest.mark.slow
def test_prometheus_finds_traces_beside_latencies_and_no_series_that_nobody_reads(
    gateway: Process, prometheus: Prometheus
) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    certify(gateway, 50, traceparent=f"00-{trace}-b7ad6b7169203331-01")

    def exemplars() -> list[str]:
        asked = {"query": "certify_request_seconds_bucket", "start": str(time.time() - 60), "end": str(time.time())}
        answer = httpx.get(f"{prometheus.url}/api/v1/query_exemplars", params=asked).json()
        return [each["labels"]["trace_id"] for series in answer["data"] for each in series["exemplars"]]

    wait(lambda: trace in exemplars(), exemplars)
    assert prometheus.value('process_resident_memory_bytes{job="certify"}')
    assert not prometheus.query('{__name__=~".+_created"}')


@pytest.mark.slow
def test_every_expression_of_dashboard_scalers_and_runbook_has_data(
    gateway: Process, triton: TritonServer | None, prometheus: Prometheus, tmp_path: Path
) -> None:
    for pattern, places in WITHOUT_DATA.items():
        assert [place for place, expression in expressions() if pattern in expression] == places
    excepted = re.compile("|".join(WITHOUT_DATA) if triton is not None else "nv_|offset 1w")
    checked = [(place, expression) for place, expression in expressions() if not excepted.search(expression)]

    def missing() -> list[tuple[str, str]]:
        for seed in range(3):
            certify(gateway, seed, sigmas="0.25", threshold="0.5")
            certify(gateway, seed, sigmas="1.0", threshold="0.99", final="threshold")
            if asking is not None:
                certify(asking, seed, samples="640")
        found = []
        for place, expression in checked:
            text = expression.replace("$job", "certify").replace("$__rate_interval", "30s")
            values = [float(each["value"][1]) for each in prometheus.query(re.sub(r"\[(1m|1h)\]", "[30s]", text))]
            if not any(value == value for value in values):  # NaN is no data
                found.append((place, text))
        return found

    with contextlib.ExitStack() as stack:
        asking: Process | None = None
        if triton is not None:  # a gateway of its own on the real server, whose counters move as long as this goes on
            on_triton = real_gateway(tmp_path / "log", triton.url)
            asking = stack.enter_context(on_triton)
        wait(lambda: not missing(), missing)
    if triton is not None:
        # The queue's scaler has a zero for when nothing was asked: without it there must be an answer too.
        ((_, query),) = [each for each in checked if each[0] == "release-certify-triton"]
        assert prometheus.value(query.split(" or ")[0].replace("[1m]", "[5m]")) is not None
