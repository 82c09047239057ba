"""Values that are none of the chart's, or that contradict each other: refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.conftest import CHART, render

yaml = pytest.importorskip("yaml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gatway": {}}, "gatway"),
        ({"gateway": {"replica": 2}}, "replica"),
        ({"gateway": {"settings": {"max_queue": 3}}}, "max_queue"),
        ({"gateway": {"settings": {"seed_key": "x"}}}, "seed_key"),
        ({"gateway": {"settings": {"max_queued": "many"}}}, "max_queued"),
        ({"gateway": {"settings": {"log_level": "loud"}}}, "log_level"),
        ({"gateway": {"extraEnv": [{"name": "CERTIFY_SEED_KEY", "value": "x"}]}}, "extraEnv"),
        ({"gateway": {"podSecurityContext": {"runAsUsr": 5}}}, "runAsUsr"),
        ({"embedded": {"bundle": "/bundles/mine"}}, "bundle"),
        ({"apiKeys": {"clients": [{"name": "a b", "samplesPerMinute": 1, "places": 1}]}}, "name"),
        ({"ipFamilies": ["IPv5"]}, "ipFamilies"),
        ({"httpRoute": {"parentRefs": [{"namespace": "gateways"}]}}, "name"),
        ({"monitoring": {"prometheusRule": {"alertLabels": {"severity": "page"}}}}, "severity"),
        ({"monitoring": {"prometheusRule": {"objectives": {"latencySeconds": 20}}}}, "latencySeconds"),
        ({"triton": {"gpuResource": "gpu"}}, "gpuResource"),
        ({"networkPolicy": {"egress": {"gateway": [{"cidr": "10.0.0.0/8"}]}}}, "cidr"),
        ({"gateway": {"podLabels": {"app.kubernetes.io/instance": "other"}}}, "app.kubernetes.io/instance"),
        ({"gateway": {"autoscaling": {"minReplicas": 0}}}, "minReplicas"),
        ({"embedded": {"engine": "tensorrt"}}, "engine"),
        ({"commonLabels": {"tier": 3}}, "tier"),
        ({"dataset": {"out": "/tmp/results"}}, "out"),
        ({"gateway": {"replicas": -1}}, "replicas"),
        ({"gateway": {"resources": {"limits": None}}}, "limits"),
        ({"gateway": {"resources": {"limits": {"memory": None}}}}, "memory"),
        ({"triton": {"modelRepository": {"source": "s3"}}}, "source"),
        ({"triton": {"image": {"digest": "latest"}}}, "digest"),
        ({"seedKey": {"value": "short"}}, "value"),
        ({"monitoring": {"prometheusRule": {"abstention": {"rate": 1.5}}}}, "rate"),
        ({"monitoring": {"prometheusRule": {"windows": {"short": "five minutes"}}}}, "short"),
    ],
)  # fmt: skip
def test_values_that_are_not_the_charts_are_refused(values: dict[str, Any], message: str) -> None:
    from helm_python import HelmError

    with pytest.raises(HelmError) as caught:
        render(values)
    assert message in str(caught.value)


# Maps whose keys are the user's, by their last name or their path.
FREE = {
    "commonLabels",
    "commonAnnotations",
    "annotations",
    "labels",
    "podAnnotations",
    "podLabels",
    "nodeSelector",
    "affinity",
    "alertLabels",
}
FREE |= {"metadata", "seccompProfile", "capabilities"}  # of a trigger; of security contexts, whose own keys are known


# Nothing is in them, or they are written as they are.
MAY_BE_NULL = {"fallback", "authenticationRef", "behavior", "rollingUpdate", "dnsConfig"}
MAY_BE_NULL |= {"podSecurityContext", "containerSecurityContext", "requests", "limits"}


def nodes(values: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every map of the chart's values whose keys are the chart's."""
    found = [path]
    for key, value in values.items():
        if isinstance(value, dict) and key not in FREE and path[-1:] != ("resources",):
            found += nodes(value, (*path, key))
    return found


NODES = nodes(yaml.safe_load((CHART / "values.yaml").read_text()))


@pytest.mark.parametrize("path", NODES, ids=lambda path: ".".join(path) or "top")
def test_a_key_that_the_chart_does_not_know_is_refused_at_every_depth(path: tuple[str, ...]) -> None:
    from helm_python import HelmError

    values: dict[str, Any] = {"unheardOf": 1}
    for key in reversed(path):
        values = {key: values}
    with pytest.raises(HelmError, match="unheardOf"):
        render(values)


@pytest.mark.parametrize(
    "path", [path for path in NODES[1:] if path[-1] not in MAY_BE_NULL], ids=lambda path: ".".join(path)
)
def test_null_where_templates_need_a_map_is_refused_by_its_name(path: tuple[str, ...]) -> None:
    from helm_python import HelmError

    values: dict[str, Any] = {path[-1]: None}
    for key in reversed(path[:-1]):
        values = {key: values}
    with pytest.raises(HelmError, match=rf"missing propert(y|ies).*'{path[-1]}'"):
        render(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gateway": {"autoscaling": {"enabled": True}, "keda": {"enabled": True}}}, "expected one of them"),
        ({"gateway": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}}, "expected minReplicas"),
        ({"triton": {"modelRepository": {"source": "volume"}}}, "expected a claim"),
        ({"triton": {"modelRepository": {"source": "init"}}}, "expected an image"),
        ({"dataset": {"enabled": True}}, "expected a claim"),
        ({"httpRoute": {"enabled": True}}, "expected the Gateway"),
        ({"gateway": {"keda": {"enabled": True, "minReplicas": 0}}}, "expected at least 1"),
        ({"triton": {"keda": {"enabled": True, "minReplicas": 5}}}, "expected minReplicas"),
        ({"gateway": {"autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": None}}}, "expected targetCPU"),
        ({"gateway": {"extraVolumes": [{"name": "tmp"}]}}, 'volumes: expected each name once, got "tmp" twice'),
        ({"triton": {"extraContainers": [{"name": "triton"}]}}, 'containers: expected each name once, got "triton"'),
        ({"gateway": {"extraEnv": [{"name": "A"}, {"name": "A"}]}}, 'gateway: env: expected each name once, got "A"'),
        ({"embedded": {"enabled": True, "bundles": {"source": "volume"}}}, "embedded.bundles.existingClaim: expected"),
        ({"embedded": {"enabled": True, "bundles": {"source": "init"}}}, "embedded.bundles.init.image: expected"),
        ({"embedded": {"enabled": True, "bundles": {"source": "ociImage"}}}, "ociImage.reference: expected an image"),
    ],
)  # fmt: skip
def test_values_that_contradict_each_other_are_refused(values: dict[str, Any], message: str) -> None:
    from helm_python import HelmError

    with pytest.raises(HelmError, match=message):
        render(values)
