"""Values as they are usual on fifty kinds of cluster: all render to objects that Kubernetes and the operators take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import ROOT, Object, check, containers, gateway_of, objects_of, of, pods, render

yaml = pytest.importorskip("yaml")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs pip install kubernetes-validate")

USUAL: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "usual.yml").read_text())
VERSION = kubernetes_validate.latest_version().removesuffix(".0")
LABELS = [f"app.kubernetes.io/{key}" for key in ("name", "instance", "component")]
CLAIM = {"claimName": "bundles", "readOnly": True}
IMAGE = {"reference": "registry.example.org/scans:3", "pullPolicy": "IfNotPresent"}


def triton_of(objects: list[Object]) -> Object:
    (found,) = [each for each in of(objects, "Deployment") if each["metadata"]["name"].endswith("-triton")]
    return found


def spec_of(deployment: Object) -> Object:
    spec: Object = deployment["spec"]["template"]["spec"]
    return spec


def test_there_are_forty() -> None:
    assert len(USUAL) >= 40


@pytest.mark.parametrize("name", USUAL)
def test_usual_values_make_objects_that_are_taken(name: str) -> None:
    objects = render(USUAL[name])
    for each in objects:
        if "extra-objects" not in each["_from"]:
            check(each, VERSION)
    for each, pod in pods(objects):
        volumes = [volume["name"] for volume in pod["spec"].get("volumes", [])]
        assert len(set(volumes)) == len(volumes)
        for container in containers(pod):
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= set(volumes), each["_from"]


def test_the_values_that_the_documentation_shows_are_the_charts() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        for each in render(yaml.safe_load(block)):
            if "extra-objects" not in each["_from"]:
                check(each, VERSION)


@pytest.mark.parametrize("name", ["openshift", "openshift-gpu"])
def test_on_openshift_no_pod_asks_for_a_user_or_group(name: str) -> None:
    for each, pod in pods(render(USUAL[name])):
        security = pod["spec"]["securityContext"]
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & security.keys(), each["_from"]
        assert security["runAsNonRoot"] is True
        assert not any("runAsUser" in container["securityContext"] for container in containers(pod))


def test_a_mirror_is_in_front_of_images_that_name_no_registry() -> None:
    (container,) = spec_of(gateway_of(render(USUAL["air-gapped"])))["containers"]
    assert container["image"] == f"registry.internal:5000/vision/certify-gateway@sha256:{'1' * 64}"
    values = {"imageRegistry": "mirror", "gateway": {"image": {"repository": "ghcr.io/a/certify", "tag": "1"}}}
    (container,) = spec_of(gateway_of(render(values)))["containers"]
    assert container["image"] == "ghcr.io/a/certify:1"


def test_what_the_sidecar_needs_is_on_the_pods() -> None:
    objects = render(USUAL["istio-sidecar"])
    labels = {each["_from"]: pod["metadata"]["labels"].get("sidecar.istio.io/inject") for each, pod in pods(objects)}
    assert sorted(labels.values()) == ["false", "false", "true", "true"]


def test_a_key_twice_would_be_seen() -> None:
    with pytest.raises(AssertionError, match="a key twice"):
        objects_of({"a.yaml": "kind: A\nmetadata:\n  labels: {b: c, b: d}\n"})


def test_a_users_maps_are_merged_and_the_charts_keys_stand() -> None:
    same = {"tier": "mine"}
    values = {
        "commonLabels": {"tier": "common", "team": "vision"},
        "gateway": {"podLabels": same, "podAnnotations": {"checksum/seed-key": "mine", "a": "b"}},
        "seedKey": {"value": "k" * 40},
        "monitoring": {"serviceMonitor": {"enabled": True, "labels": same}},
        "tests": {"podAnnotations": {"helm.sh/hook": "post-install"}},
    }
    objects = render(values)  # OnceLoader refuses a key twice
    pod = gateway_of(objects)["spec"]["template"]["metadata"]
    assert pod["labels"]["tier"] == "mine" and pod["labels"]["team"] == "vision"
    assert len(pod["annotations"]["checksum/seed-key"]) == 64 and pod["annotations"]["a"] == "b"
    (test,) = of(objects, "Pod")
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"


@pytest.mark.parametrize(
    ("name", "bundle", "source"),
    [
        ("own-bundle-on-a-claim", "/bundles/scans/v3", {"persistentVolumeClaim": CLAIM}),
        ("own-bundle-from-s3", "/bundles/scans", {"emptyDir": {}}),
        ("own-bundle-from-an-image", "/bundles", {"image": IMAGE}),
        ("kind", "digits", None),
    ],
)
def test_an_embedded_gateway_reads_its_bundle_from_where_it_comes(name: str, bundle: str, source: Any) -> None:
    spec = spec_of(gateway_of(render(USUAL[name])))
    (container,) = spec["containers"]
    assert {"name": "CERTIFY_BUNDLE", "value": bundle} in container["env"]
    found = [volume for volume in spec["volumes"] if volume["name"] == "models"]
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "models"]
    assert found == ([] if source is None else [{"name": "models", **source}])
    assert mounts == ([] if source is None else [{"name": "models", "mountPath": "/bundles", "readOnly": True}])


def test_an_init_container_can_write_where_the_bundle_is_read_and_has_its_credentials() -> None:
    spec = spec_of(gateway_of(render(USUAL["own-bundle-from-minio"])))
    (init,) = spec["initContainers"]
    assert {"name": "models", "mountPath": "/bundles"} in init["volumeMounts"]
    assert init["envFrom"] == [{"secretRef": {"name": "minio"}}] and {"name": "HOME", "value": "/tmp"} in init["env"]
    assert init["securityContext"]["readOnlyRootFilesystem"] is True


def test_without_a_limit_of_cpu_the_request_is_the_number_of_threads() -> None:
    (container,) = spec_of(gateway_of(render(USUAL["without-cpu-limits"])))["containers"]
    assert "cpu" not in container["resources"]["limits"]
    (workers,) = [each for each in container["env"] if each["name"] == "CERTIFY_WORKERS"]
    assert workers["valueFrom"]["resourceFieldRef"]["resource"] == "requests.cpu"


def test_scaling_holds_still_when_prometheus_has_lost_sight() -> None:
    objects = of(render(USUAL["keda"]), "ScaledObject")
    for scaler in objects:
        (trigger,) = scaler["spec"]["triggers"]
        assert trigger["metadata"]["ignoreNullValues"] == "false" and "authenticationRef" in trigger
    (gateway,) = [each for each in objects if each["metadata"]["name"].endswith("-gateway")]
    assert gateway["spec"]["fallback"] == {"failureThreshold": 3, "replicas": 4}
    assert gateway["spec"]["triggers"][0]["metadata"]["authModes"] == "bearer"


def test_a_request_that_finds_no_server_reaches_a_gateway_and_starts_one() -> None:
    objects = render(USUAL["keda-to-zero"])
    (scaler,) = [o for o in of(objects, "ScaledObject") if o["metadata"]["name"].endswith("-triton")]
    assert scaler["spec"]["minReplicaCount"] == 0
    assert any('result="failed"' in trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"])
    (service,) = [o for o in of(objects, "Service") if o["metadata"]["name"].endswith("-gateway")]
    assert service["spec"]["publishNotReadyAddresses"] is True
    (container,) = spec_of(gateway_of(objects))["containers"]
    assert container["startupProbe"]["httpGet"]["path"] == "/livez"
    assert {"name": "CERTIFY_START_SECONDS", "value": "86400"} in container["env"]


def test_both_services_have_the_families_that_were_asked_for_and_the_gateway_listens_to_both() -> None:
    objects = render(USUAL["dual-stack"])
    for service in of(objects, "Service"):
        assert service["spec"]["ipFamilyPolicy"] == "PreferDualStack"
        assert service["spec"]["ipFamilies"] == ["IPv6", "IPv4"]
    (container,) = spec_of(gateway_of(objects))["containers"]
    assert {"name": "CERTIFY_HTTP_HOST", "value": "::"} in container["env"]
    for name, says in (("dual-stack", True), ("eks-ipv6", True), ("mig-slices", False)):
        (triton,) = spec_of(triton_of(render(USUAL[name])))["containers"]
        assert ("--metrics-address=ipv6:::" in triton["args"]) is says


def test_pods_reach_dns_each_other_and_what_rules_allow() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in of(render(USUAL["egress-by-rule"]), "NetworkPolicy")}
    gateway, triton = policies["release-certify-gateway"], policies["release-certify-triton"]
    assert gateway["policyTypes"] == triton["policyTypes"] == ["Ingress", "Egress"]
    ports = [[port["port"] for port in rule["ports"]] for rule in gateway["egress"]]
    assert ports == [[53, 53, 5353, 5353], ["grpc"], [6379], [4318]]
    assert [[port["port"] for port in rule["ports"]] for rule in triton["egress"]] == [[53, 53, 5353, 5353], [443]]
    assert policies["release-certify-test"]["egress"][1]["ports"] == [{"port": "http"}]
    for policy in of(render({}), "NetworkPolicy"):
        assert policy["spec"]["policyTypes"] == ["Ingress"] and "egress" not in policy["spec"]


def test_every_pod_has_a_policy_and_nobody_asks_those_that_only_ask() -> None:
    objects = render({"dataset": {"enabled": True, "existingClaim": "data"}})
    policies = {str(each["spec"]["podSelector"]["matchLabels"]): each["spec"] for each in of(objects, "NetworkPolicy")}
    for each, pod in pods(objects):
        selector = {key: pod["metadata"]["labels"][key] for key in LABELS}
        asked = each["kind"] == "Deployment"
        assert ("ingress" in policies[str(selector)]) is asked, each["_from"]


def test_a_budget_of_pods_that_must_be_there_replaces_the_one_that_may_be_away() -> None:
    for budget in of(render(USUAL["zones"]), "PodDisruptionBudget"):
        assert "maxUnavailable" not in budget["spec"] and budget["spec"]["minAvailable"] in (4, "50%")
    zone, host = spec_of(gateway_of(render(USUAL["zones"])))["topologySpreadConstraints"]
    for constraint in (zone, host):
        assert constraint["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"


def test_other_monitors_namespaces_still_find_the_releases_services() -> None:
    objects = render(USUAL["one-namespace-for-monitoring"])
    for monitor in of(objects, "ServiceMonitor"):
        assert monitor["metadata"]["namespace"] == "monitoring"
        assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["ml"]}
    for kind in ("PrometheusRule", "ConfigMap"):
        (each,) = of(objects, kind)
        assert each["metadata"]["namespace"] == "monitoring"


def test_gpus_are_asked_for_by_the_name_that_the_device_plugin_gives_them() -> None:
    (container,) = spec_of(triton_of(render(USUAL["mig-slices"])))["containers"]
    assert container["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == 1
    assert "nvidia.com/gpu" not in container["resources"]["limits"]


def test_extra_objects_may_be_maps_or_text_with_templates() -> None:
    (route,) = of(render(USUAL["openshift"]), "Route")
    assert route["spec"]["to"]["name"] == "release-certify-gateway" and route["metadata"]["namespace"] == "ml"
    (policy,) = of(render(USUAL["cilium"]), "CiliumNetworkPolicy")
    assert policy["spec"]["endpointSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "release"


@pytest.mark.parametrize("text", ["1234", "on", "1e5", "null"])
def test_names_that_yaml_takes_for_something_else_stay_names(text: str) -> None:
    monitoring = {kind: {"enabled": True} for kind in ("serviceMonitor", "prometheusRule")}
    for each in render({"monitoring": monitoring}, name=text, namespace=text):
        check(each, VERSION)
        assert each["metadata"]["namespace"] == each["metadata"]["labels"]["app.kubernetes.io/instance"] == text


def test_triton_that_somebody_else_runs_is_asked_and_not_made() -> None:
    objects = render(USUAL["external-triton"])
    assert not any("triton" in each["metadata"]["name"] for each in objects)
    (container,) = spec_of(gateway_of(objects))["containers"]
    assert {"name": "CERTIFY_TRITON_URL", "value": "dns:///triton.gpu-team.svc:8001"} in container["env"]


def test_a_start_may_take_as_long_as_its_probe_allows_before_a_rollout_has_failed() -> None:
    objects = render({"triton": {"startupSeconds": 1200}, "gateway": {"minReadySeconds": 30}})
    for deployment in of(objects, "Deployment"):
        probe = spec_of(deployment)["containers"][0]["startupProbe"]
        longest = probe["failureThreshold"] * probe["periodSeconds"] + deployment["spec"].get("minReadySeconds", 0)
        assert deployment["spec"]["progressDeadlineSeconds"] >= longest + 600


def test_annotations_of_every_object_stand_behind_its_own() -> None:
    waves = {each["_from"]: each["metadata"]["annotations"] for each in render(USUAL["waves-and-downscaling"])}
    own = {path: each["argocd.argoproj.io/sync-wave"] for path, each in waves.items()}
    assert {path for path, wave in own.items() if wave == "1"} == {"certify/templates/triton-deployment.yaml"}
    assert set(own.values()) == {"1", "2"}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("ScaledObject", {"fallbacks": {}}),
        ("ServiceMonitor", {"endpoints": [{"scrapeTimeout": "soon"}]}),
        ("PrometheusRule", {"groups": [{"rules": []}]}),
        ("HTTPRoute", {"rules": [{"match": []}]}),
    ],
)
def test_the_operators_schemas_refuse_what_is_not_theirs(kind: str, change: dict[str, Any]) -> None:
    import jsonschema

    for name in ("keda", "kube-prometheus-stack", "gke-gateway"):
        for each in of(render(USUAL[name]), kind):
            check(each, VERSION)
            with pytest.raises(jsonschema.ValidationError):
                check({**each, "spec": {**each["spec"], **change}}, VERSION)
            return
    raise AssertionError(kind)
