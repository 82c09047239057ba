"""The chart: lint, Kubernetes' own schemas, every reference between its objects, and what it promises to operators."""

from __future__ import annotations

import json
from typing import Any

import pytest

from certify.service.settings import Settings
from tests.deploy.conftest import CHART, VALUES, Object, check, containers, gateway_of, of, pods, render, rendered

yaml = pytest.importorskip("yaml")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs pip install kubernetes-validate")

# Settings that the chart sets from values of their own.
OWN = {
    *"http_host http_port backend bundle engine micro_batch triton_url start_seconds".split(),
    *"seed_key grace_seconds api_keys_file signing_key_file".split(),
}


@pytest.fixture(params=list(VALUES))
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return render(VALUES[request.param])


@pytest.mark.parametrize("name", VALUES)
def test_lint_is_clean(name: str) -> None:
    import helm_python

    report = helm_python.lint(str(CHART), VALUES[name], strict=True)
    assert not report["errors"]
    assert [m for m in report["messages"] if "icon is recommended" not in m["error"]] == []


# The oldest that the chart allows, and the newest that is known here.
VERSIONS = [yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"].removeprefix(">=").removesuffix(".0-0")]
VERSIONS += [kubernetes_validate.latest_version().removesuffix(".0")]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_one_that_kubernetes_takes(version: str, objects: list[Object]) -> None:
    for each in objects:
        check(each, version)


def test_one_object_a_file(objects: list[Object]) -> None:
    files = [each["_from"] for each in objects]
    assert len(files) == len(set(files))


def test_names_are_unique_and_everything_is_in_the_releases_namespace(objects: list[Object]) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))
    assert {each["metadata"]["namespace"] for each in objects} == {"ml"}


def test_selectors_name_the_instance_and_find_exactly_their_pods(objects: list[Object]) -> None:
    labels = {each["metadata"]["name"]: pod["metadata"]["labels"] for each, pod in pods(objects)}

    def selected(selector: dict[str, str]) -> list[str]:
        return [name for name, own in labels.items() if selector.items() <= own.items()]

    for each in objects:
        match each["kind"]:
            case "Deployment" | "PodDisruptionBudget":
                selector = each["spec"]["selector"]["matchLabels"]
            case "Service":
                selector = each["spec"]["selector"]
            case "NetworkPolicy":
                selector = each["spec"]["podSelector"]["matchLabels"]
            case _:
                continue
        assert selector["app.kubernetes.io/instance"] == "release"
        assert len(selected(selector)) == 1, each["_from"]


def test_two_releases_in_a_namespace_do_not_touch_each_other() -> None:
    first, second = render(VALUES["everything"], name="one"), render(VALUES["everything"], name="two")
    names = [{(each["kind"], each["metadata"]["name"]) for each in objects} for objects in (first, second)]
    assert not names[0] & names[1]
    ours = [each["spec"]["selector"]["matchLabels"] for each in of(first, "Deployment")]
    theirs = [pod["metadata"]["labels"] for _, pod in pods(second)]
    assert not any(selector.items() <= labels.items() for selector in ours for labels in theirs)


def test_every_reference_resolves(objects: list[Object]) -> None:
    names = {kind: {each["metadata"]["name"] for each in of(objects, kind)} for kind in {o["kind"] for o in objects}}
    given_secrets = {"seed", "certify-seed", "release-certify-seed"}  # the user's own: there is no cluster to ask here
    for each, pod in pods(objects):
        ports = [port["name"] for container in containers(pod) for port in container.get("ports", [])]
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        account = pod["spec"].get("serviceAccountName", "default")
        assert account in names.get("ServiceAccount", set()) | {"default", "mine"}, each["_from"]
        for container in containers(pod):
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if http := container.get(probe, {}).get("httpGet"):
                    assert http["port"] in ports
                elif grpc := container.get(probe, {}).get("grpc"):  # takes no name
                    assert grpc["port"] in [port["containerPort"] for port in container["ports"]]
            for variable in container.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    assert reference["name"] in names.get("Secret", set()) | given_secrets
                    for secret in of(objects, "Secret"):
                        if secret["metadata"]["name"] == reference["name"]:
                            assert reference["key"] in secret["data"]
    by_labels = [(pod["metadata"]["labels"], pod) for _, pod in pods(objects)]
    service_ports: dict[str, dict[str, Any]] = {}
    for service in of(objects, "Service"):
        selector = service["spec"]["selector"]
        (pod,) = [pod for labels, pod in by_labels if selector.items() <= labels.items()]
        ports = {port["name"] for container in containers(pod) for port in container.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
        service_ports[service["metadata"]["name"]] = {p["name"]: p["port"] for p in service["spec"]["ports"]}
    for policy in of(objects, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]["matchLabels"]
        (pod,) = [pod for labels, pod in by_labels if selector.items() <= labels.items()]
        ports = {port["name"] for container in containers(pod) for port in container.get("ports", [])}
        for rule in policy["spec"].get("ingress", []):
            assert {port["port"] for port in rule["ports"]} <= ports
            for peer in rule["from"]:
                wanted = peer.get("podSelector", {}).get("matchLabels")
                if wanted and "namespaceSelector" not in peer:
                    assert any(wanted.items() <= labels.items() for labels, _ in by_labels), policy["_from"]
    for monitor in of(objects, "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        (service,) = [s for s in of(objects, "Service") if selector.items() <= s["metadata"]["labels"].items()]
        for endpoint in monitor["spec"]["endpoints"]:
            assert endpoint["port"] in service_ports[service["metadata"]["name"]]
    for scaler in (*of(objects, "HorizontalPodAutoscaler"), *of(objects, "ScaledObject")):
        assert scaler["spec"]["scaleTargetRef"]["name"] in names["Deployment"]
        (target,) = [d for d in of(objects, "Deployment") if d["metadata"]["name"] == scaler["metadata"]["name"]]
        assert "replicas" not in target["spec"]  # or every upgrade would fight the scaler
    for ingress in of(objects, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                assert backend["port"]["name"] in service_ports[backend["name"]]
    for route in of(objects, "HTTPRoute"):
        (backend,) = route["spec"]["rules"][0]["backendRefs"]
        assert backend["port"] in service_ports[backend["name"]].values()


def test_the_gateway_calls_the_headless_service_by_its_grpc_port(objects: list[Object]) -> None:
    gateway = gateway_of(objects)
    environment = {e["name"]: e.get("value") for e in gateway["spec"]["template"]["spec"]["containers"][0]["env"]}
    if environment["CERTIFY_BACKEND"] == "embedded":
        assert "CERTIFY_TRITON_URL" not in environment and len(of(objects, "Deployment")) == 1
        return
    (service,) = [s for s in of(objects, "Service") if s["spec"].get("clusterIP") == "None"]
    assert environment["CERTIFY_TRITON_URL"] == f"dns:///{service['metadata']['name']}.ml.svc:8001"
    assert {"name": "grpc", "port": 8001, "targetPort": "grpc"} in service["spec"]["ports"]


def test_no_container_is_root_writes_its_image_or_runs_without_requests_and_limits(objects: list[Object]) -> None:
    for each, pod in pods(objects):
        assert pod["spec"]["automountServiceAccountToken"] is False
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] > 0, each["_from"]
        for container in containers(pod):
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True and own["allowPrivilegeEscalation"] is False
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
            assert own["capabilities"] == {"drop": ["ALL"]}
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= container["resources"][kind].keys(), each["_from"]


def test_a_drain_is_longer_than_the_longest_answer(objects: list[Object]) -> None:
    gateway = gateway_of(objects)
    spec = gateway["spec"]["template"]["spec"]
    environment = {e["name"]: e.get("value") for e in spec["containers"][0]["env"]}
    stop = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    waits = int(stop.removeprefix("import time; time.sleep(").removesuffix(")"))
    assert spec["terminationGracePeriodSeconds"] > waits + float(environment["CERTIFY_GRACE_SECONDS"])


def test_the_gateways_environment_is_settings_that_exist(objects: list[Object]) -> None:
    gateway = gateway_of(objects)
    environment = gateway["spec"]["template"]["spec"]["containers"][0]["env"]
    names = [variable["name"] for variable in environment]
    assert len(names) == len(set(names))
    ours = [variable for variable in environment if variable["name"].startswith("CERTIFY_")]
    values = {v["name"].removeprefix("CERTIFY_").lower(): v.get("value") for v in ours}
    assert values.keys() <= Settings.model_fields.keys()
    Settings.model_validate({name: value for name, value in values.items() if value is not None})


def test_triton_gets_a_gpu_and_shared_memory() -> None:
    for name, gpus in (("default", 1), ("volume", None)):
        (triton,) = [d for d in of(render(VALUES[name]), "Deployment") if d["metadata"]["name"].endswith("-triton")]
        spec = triton["spec"]["template"]["spec"]
        assert spec["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") == gpus
        (memory,) = [volume for volume in spec["volumes"] if volume["name"] == "shm"]
        assert memory["emptyDir"]["medium"] == "Memory"


def test_only_gateways_reach_triton_and_only_prometheus_its_metrics() -> None:
    (policy,) = [p for p in of(render({}), "NetworkPolicy") if p["metadata"]["name"].endswith("-triton")]
    votes, metrics = policy["spec"]["ingress"]
    assert [port["port"] for port in votes["ports"]] == ["grpc"]
    (peer,) = votes["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    assert [port["port"] for port in metrics["ports"]] == ["metrics"]
    assert metrics["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


@pytest.mark.parametrize(
    ("values", "said", "unless"),
    [
        ({"ingress": {"enabled": True}}, "networkPolicy.ingressFrom", {"networkPolicy": {"enabled": False}}),
        (
            {"gateway": {"keda": {"enabled": True}}},
            "serviceMonitor",
            {"monitoring": {"serviceMonitor": {"enabled": True}}},
        ),
        ({}, "No seed key was made", {"seedKey": {"existingSecret": "mine"}}),
        ({"seedKey": {"generate": "always"}}, "Keep a copy", {"seedKey": {"existingSecret": "mine"}}),
        ({"apiKeys": {"clients": [{"name": "a", "samplesPerMinute": 1, "places": 1}]}}, '"a.key"', {"apiKeys": {}}),
    ],
)
def test_notes_say_what_is_still_missing(values: dict[str, Any], said: str, unless: dict[str, Any]) -> None:
    def notes(values: dict[str, Any]) -> str:
        (text,) = [text for path, text in rendered(values).items() if path.endswith("NOTES.txt")]
        return text

    assert said in notes(values)
    assert said not in notes({**values, **unless})


def test_the_schema_knows_every_setting_and_its_type() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    expected = {}
    for name, given in Settings.model_json_schema()["properties"].items():
        field = {key: value for key, value in given.items() if key not in ("title", "default", "anyOf")}
        # Optional: a value that is not given is a null in Python, and no key in YAML.
        (own,) = [each for each in given.get("anyOf", [{}]) if each != {"type": "null"}]
        if name not in OWN:
            expected[name] = {**own, **field}
    assert schema["properties"]["gateway"]["properties"]["settings"]["properties"] == expected
