"""The chart, rendered by Helm's own engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("helm_python", reason="needs Helm's engine (pip install helm-python-sdk)")
yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "certify"
SCHEMAS = Path(__file__).parent / "schemas"

Object = dict[str, Any]

EVERYTHING: dict[str, Any] = {
    "commonLabels": {"team": "vision"},
    "imagePullSecrets": [{"name": "pull"}],
    "gateway": {
        "settings": {"max_queued": 128, "log_level": "debug", "tracing": True},
        "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel-collector:4318"}],
        "keda": {"enabled": True},
        "podLabels": {"tier": "edge"},
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"disk": "fast"},
        "image": {"digest": "sha256:" + "0" * 64},
    },
    "triton": {
        "keda": {"enabled": True},
        "modelRepository": {"source": "init", "init": {"image": "fetch:1", "args": ["s3://x", "/models"]}},
    },
    "ingress": {"enabled": True, "className": "nginx", "tls": [{"secretName": "t", "hosts": ["certify.example.org"]}]},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "front"}], "hostnames": ["certify.example.org"]},
    "monitoring": {
        "serviceMonitor": {"enabled": True},
        "dashboard": {"enabled": True},
        "prometheusRule": {"enabled": True},
    },
    "dataset": {"enabled": True, "existingClaim": "data", "args": ["--samples", "3000"]},
}
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "production": yaml.safe_load((CHART / "values-prod.yaml").read_text()),
    "embedded": {"embedded": {"enabled": True}},
    "embedded-tuned": {
        "embedded": {"enabled": True, "engine": "openvino", "microBatch": 32},
        "gateway": {"settings": {"workers": 3}, "replicas": 1},
        "tests": {"enabled": False},
    },
    "everything": EVERYTHING,
    "everything-embedded": {**EVERYTHING, "embedded": {"enabled": True}},
    "volume": {
        "triton": {"modelRepository": {"source": "volume", "existingClaim": "models", "subPath": "v2"}, "gpus": 0},
        "gateway": {"autoscaling": {"enabled": True}, "serviceAccount": {"create": False, "name": "mine"}},
        "seedKey": {"existingSecret": "seed", "existingSecretKey": "key"},
        "networkPolicy": {"enabled": False},
        "fullnameOverride": "other",
    },
}


class OnceLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A key that a map has twice is an error: PyYAML takes the last, an API server refuses the object."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{node.start_mark}: a key twice in {keys}"
        return dict(super().construct_mapping(node, deep))


def rendered(
    values: dict[str, Any], *, name: str = "release", namespace: str = "ml", chart: Path = CHART
) -> dict[str, str]:
    """Template -> its text."""
    from helm_python import Chart

    with Chart.load(str(chart)) as loaded:
        return dict(loaded.render(values, name=name, namespace=namespace))


def render(values: dict[str, Any], *, name: str = "release", namespace: str = "ml") -> list[dict[str, Any]]:
    """All objects, each with the template that made it under "_from"."""
    return objects_of(rendered(values, name=name, namespace=namespace))


def objects_of(templates: dict[str, str]) -> list[Object]:
    objects = []
    for path, text in templates.items():
        if path.endswith(".yaml"):
            found = [each for each in yaml.load_all(text, OnceLoader) if each is not None]
            objects += [{**each, "_from": path} for each in found]
    return objects


def check(each: Object, version: str) -> None:
    """That Kubernetes of this version takes the object; of a custom resource, that its operator's schema does."""
    import jsonschema
    import kubernetes_validate

    stripped = {key: value for key, value in each.items() if key != "_from"}
    schema = SCHEMAS / f"{each['kind']}.json"
    if schema.exists():
        jsonschema.validate(stripped, json.loads(schema.read_text()))
    else:
        kubernetes_validate.validate(stripped, version, strict=True)


def of(objects: list[Object], kind: str) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def pods(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """(object, pod's metadata and spec)."""
    for each in objects:
        if each["kind"] == "Pod":
            yield each, each
        elif each["kind"] in ("Deployment", "Job"):
            yield each, each["spec"]["template"]


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def gateways(objects: list[Object]) -> dict[str, Object]:
    """The gateways' Deployments, of each bundle, by name."""
    found = {each["metadata"]["name"]: each for each in of(objects, "Deployment")}
    return {name: each for name, each in found.items() if name.endswith("-gateway")}


def gateway_of(objects: list[Object]) -> Object:
    """The only one of a release with one bundle."""
    (found,) = gateways(objects).values()
    return found


def groups(name: str = "g", **rule: Any) -> dict[str, Any]:
    """Of a release whose gateways' job is NAME-gateway, in the namespace ml."""
    values = {"fullnameOverride": name, "monitoring": {"prometheusRule": {"enabled": True, **rule}}}
    (found,) = of(render(values), "PrometheusRule")
    return {"groups": found["spec"]["groups"]}


def alerts() -> dict[str, dict[str, Any]]:
    """The chart's alerts by name; of a name's several, the last."""
    rules = [rule for group in groups()["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule for rule in rules if "alert" in rule}


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install prometheus)")
    return found
