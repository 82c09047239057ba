"""The rules: their names and labels, their runbook, and promtool's word on when each alert fires."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry

from certify.service.answering.schemas import AbstainReason
from certify.service.http.metrics import Metrics
from tests.deploy.conftest import ROOT, alerts, groups, of, render, tool

yaml = pytest.importorskip("yaml")


def test_composes_rules_are_the_charts_by_default() -> None:
    rules = groups("certify", gatewaySelector='job="certify"')
    assert yaml.safe_load((ROOT / "docker" / "rules.yml").read_text()) == rules


def test_every_alert_has_a_section_in_the_runbook() -> None:
    runbook = (ROOT / "docs" / "operations.md").read_text()
    for name, rule in alerts().items():
        assert f"### {name}\n" in runbook
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"


def test_every_alert_has_the_labels_that_route_it_and_the_runbooks_address() -> None:
    rule: dict[str, Any] = {
        "alertLabels": {"team": "vision", "severity_of": "ml"},
        "runbookUrl": "https://example.org/runbook",
    }
    for group in groups(**rule)["groups"]:
        for each in group["rules"]:
            if "alert" in each:
                assert {"team": "vision", "severity_of": "ml"}.items() <= each["labels"].items()
                assert each["labels"]["severity"] in ("critical", "warning", "info")
                assert each["annotations"]["runbook_url"].startswith("https://example.org/runbook#certify")


def test_records_are_named_by_level_metric_and_operations() -> None:
    for group in groups()["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                assert re.fullmatch(r"(bundle|job|client):certify_[a-z_]+:[a-z0-9_]+", rule["record"])


def test_every_rule_is_of_this_release_and_keeps_clusters_apart() -> None:
    for group in groups()["groups"]:
        for rule in group["rules"]:
            selectors = re.findall(r"[a-z_:]*certify_[a-z_]+[a-z_:0-9]*(\{[^}]*\})|\bup(\{[^}]*\})", rule["expr"])
            for selector in selectors:
                assert 'namespace="ml", job="g-gateway"' in "".join(selector), rule
            for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"]):
                assert labels.startswith("cluster, namespace, job"), rule


def test_where_triton_may_go_no_gateway_need_be_ready() -> None:
    assert "CertifyNotReady" in alerts()
    keda = {"triton": {"keda": {"enabled": True, "minReplicas": 0}}}
    (rule,) = of(render({**keda, "monitoring": {"prometheusRule": {"enabled": True}}}), "PrometheusRule")
    assert "CertifyNotReady" not in str(rule)


def test_the_abstention_runbook_tells_every_reason_and_every_known_failure_apart() -> None:
    runbook = (ROOT / "docs" / "operations.md").read_text()
    section = runbook.split("### CertifyAbstentionHigh\n")[1].split("\n### ")[0]
    for reason in get_args(AbstainReason):
        assert f"`{reason}`" in section
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
    signatures = [row[0] for row in rows]
    assert len(set(signatures)) == len(signatures) == 7
    for words in ("too weak", "p0 is too high", "rival", "inconsistent", "drifted", "budget", "deadlines"):
        assert sum(words in row[1] for row in rows) >= 1, words


def promtool_test(folder: Path, rules: dict[str, Any], *names: str) -> None:
    promtool = tool("promtool")
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    done = subprocess.run([promtool, "test", "rules", *names], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_every_alert_firing_and_not(tmp_path: Path) -> None:
    names = ("alerts.yml", "alerts-scope.yml", "alerts-week.yml")
    cases = []
    for name in names:
        shutil.copy(Path(__file__).parent / name, tmp_path / name)
        tests = yaml.safe_load((tmp_path / name).read_text())["tests"]
        cases += [case for test in tests for case in test.get("alert_rule_test", [])]
    promtool_test(tmp_path, groups(), *names)
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts().keys()
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts().keys()


def after_answers_of(seconds: float, each_minute: int) -> list[dict[str, str]]:
    """The histogram's series as the gateway's own metrics count such answers, for two hours."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, version="0", codes=("internal_error",))
    metrics.failed("internal_error", seconds)
    series = []
    for family in registry.collect():
        for sample in family.samples:
            if sample.name.startswith("certify_request_seconds_") and sample.labels["result"] == "failed":
                labels = {"namespace": "ml", "job": "g-gateway", "instance": "a", **sample.labels, "result": "answered"}
                text = ", ".join(f'{name}="{value}"' for name, value in labels.items())
                series.append(
                    {"series": f"{sample.name}{{{text}}}", "values": f"0+{int(sample.value) * each_minute}x120"}
                )
    return series


@pytest.mark.parametrize(("seconds", "fires"), [(300, True), (50, False)])
def test_the_latency_alert_at_90_seconds_fires_at_300_and_not_at_50(
    seconds: float, fires: bool, tmp_path: Path
) -> None:
    labels = {"severity": "warning", "namespace": "ml", "job": "g-gateway"}
    summary = "one answer in twenty takes longer than 4m 51s"
    fired = {
        "exp_labels": labels,
        "exp_annotations": {"summary": summary, "runbook_url": "docs/operations.md#certifyslow"},
    }
    case = {"alertname": "CertifySlow", "eval_time": "1h", "exp_alerts": [fired] if fires else []}
    test = {"interval": "1m", "input_series": after_answers_of(seconds, 10), "alert_rule_test": [case]}
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(document))
    promtool_test(tmp_path, groups(latencyP95Seconds=90), "alerts.yml")
