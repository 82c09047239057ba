"""Several bundles in one release: each has components of its own, and what reaches them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.deploy.conftest import CHART, EVERYTHING, Object, check, containers, gateways, of, pods, render, rendered

yaml = pytest.importorskip("yaml")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs pip install kubernetes-validate")

VERSION = kubernetes_validate.latest_version().removesuffix(".0")
TWO: dict[str, Any] = {
    "bundles": {
        "green": {"weight": 10, "triton": {"image": {"tag": "2026-11"}, "gpus": 2}, "gateway": {"replicas": 1}},
        "small": {"embedded": {"enabled": True, "bundle": "digits"}},
    }
}
ALL = {**EVERYTHING, **TWO}
ONLY = {**ALL, "ownBundle": False, "bundles": {"blue": {"weight": 30}, "green": {"weight": 70}}}


def names(objects: list[Object], kind: str) -> list[str]:
    return sorted(each["metadata"]["name"] for each in of(objects, kind))


def test_each_bundle_has_gateways_and_servers_of_its_own_beside_the_releases() -> None:
    objects = render(TWO)
    expected = ["release-certify-gateway", "release-certify-green-gateway", "release-certify-green-triton"]
    expected += ["release-certify-small-gateway", "release-certify-triton"]
    assert names(objects, "Deployment") == names(objects, "Service") == expected
    assert names(objects, "PodDisruptionBudget") == names(objects, "ServiceAccount") == expected
    deployments = {each["metadata"]["name"]: each for each in of(objects, "Deployment")}
    green = deployments["release-certify-green-triton"]
    (container,) = green["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "certify-triton:2026-11" and container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert container["resources"]["limits"]["memory"] == "16Gi"
    assert green["metadata"]["labels"]["certify/bundle"] == "green"
    assert deployments["release-certify-green-gateway"]["spec"]["replicas"] == 1
    environment = {
        name: {each["name"]: each.get("value") for each in containers(deployment["spec"]["template"])[0]["env"]}
        for name, deployment in gateways(objects).items()
    }
    own, green_env, small = (environment[f"release-certify-{name}gateway"] for name in ("", "green-", "small-"))
    assert green_env["CERTIFY_TRITON_URL"] == "dns:///release-certify-green-triton.ml.svc:8001"
    assert green_env["CERTIFY_ROOT_PATH"] == "/v1/bundles/green" and "CERTIFY_ROOT_PATH" not in own
    assert (small["CERTIFY_BACKEND"], small["CERTIFY_BUNDLE"]) == ("embedded", "digits")


def test_what_a_release_without_bundles_has_is_not_touched_by_one_that_comes() -> None:
    before = {(each["kind"], each["metadata"]["name"]): each for each in render(EVERYTHING)}
    after = {(each["kind"], each["metadata"]["name"]): each for each in render(ALL)}
    assert before.keys() < after.keys()
    changed = {key for key, each in before.items() if after[key] != each}
    assert changed == {("HTTPRoute", "release-certify-gateway"), ("Ingress", "release-certify-gateway")}


@pytest.mark.parametrize("values", [TWO, ALL, ONLY], ids=["two", "all", "only"])
def test_no_set_selects_anothers_pods_and_equal_renderings_are_equal(values: dict[str, Any]) -> None:
    assert rendered(values) == rendered(values)
    objects = render(values)
    labels = {each["metadata"]["name"]: pod["metadata"]["labels"] for each, pod in pods(objects)}
    for each in of(objects, "Deployment"):
        selector = each["spec"]["selector"]["matchLabels"]
        found = [name for name, own in labels.items() if selector.items() <= own.items()]
        assert found == [each["metadata"]["name"]]
    for each in objects:
        if "extra-objects" not in each["_from"]:
            check(each, VERSION)
            assert len(each["metadata"]["name"]) <= 63


def test_the_longest_names_make_names_that_kubernetes_takes() -> None:
    values = {**EVERYTHING, "bundles": {"b" * 20: {}, "c" * 20: {}}}
    objects = render(values, name="r" * 53)
    found = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(set(found)) == len(found) and max(len(name) for _, name in found) <= 63


def test_only_a_bundles_own_gateways_reach_its_servers() -> None:
    objects = render(TWO)
    policies = {each["metadata"]["name"]: each["spec"] for each in of(objects, "NetworkPolicy")}
    for set_of in ("", "green-"):
        (peer,) = policies[f"release-certify-{set_of}triton"]["ingress"][0]["from"]
        assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == f"{set_of}gateway"
    everyone = {str(each["podSelector"]["matchLabels"]) for each in policies.values()}
    for each, pod in pods(objects):
        ours = {key: pod["metadata"]["labels"][f"app.kubernetes.io/{key}"] for key in ("name", "instance", "component")}
        assert str({f"app.kubernetes.io/{key}": value for key, value in ours.items()}) in everyone, each["_from"]


def routes(objects: list[Object]) -> dict[str, list[Any]]:
    return {each["metadata"]["name"]: each["spec"]["rules"] for each in of(objects, "HTTPRoute")}


def backends(rule: Object) -> dict[str, int | None]:
    return {each["name"]: each.get("weight") for each in rule["backendRefs"]}


def test_an_http_route_weighs_what_comes_without_a_name_and_rewrites_what_comes_with_one() -> None:
    headers = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "b"}]}}
    route = {"filters": [headers], "matches": [{"path": {"type": "PathPrefix", "value": "/v1/certify"}}]}
    found = routes(render({**ALL, "httpRoute": {**EVERYTHING["httpRoute"], **route}}))
    (rule,) = found["release-certify-gateway"]
    assert backends(rule) == {
        "release-certify-gateway": 90,
        "release-certify-green-gateway": 10,
        "release-certify-small-gateway": 0,
    }
    assert rule["matches"] == route["matches"] and rule["filters"] == [headers]
    for name in ("green", "small"):
        rules = found[f"release-certify-{name}-gateway"]
        assert [
            (each["matches"][0]["path"]["value"], each["filters"][0]["urlRewrite"]["path"]["replacePrefixMatch"])
            for each in rules
        ] == [(f"/v1/bundles/{name}", "/"), (f"/v1/bundles/{name}/certify", "/v1/certify")]
        for each in rules:
            assert backends(each) == {f"release-certify-{name}-gateway": None} and each["filters"][1] == headers


def test_without_bundles_the_route_has_one_backend_and_no_weights() -> None:
    ((rule,),) = routes(render(EVERYTHING)).values()
    assert backends(rule) == {"release-certify-gateway": None}


def test_without_a_bundle_of_its_own_the_releases_service_leads_to_the_heaviest() -> None:
    objects = render({**ONLY, "gateway": {"service": {"type": "LoadBalancer", "nodePort": 30080}}})
    assert list(gateways(objects)) == ["release-certify-blue-gateway", "release-certify-green-gateway"]
    services = {each["metadata"]["name"]: each for each in of(objects, "Service")}
    entry, green = services["release-certify-gateway"], services["release-certify-green-gateway"]
    assert entry["spec"]["selector"] == green["spec"]["selector"]
    # One load balancer; and no monitor takes its Service for a gateway's.
    assert (entry["spec"]["type"], entry["spec"]["ports"][0]["nodePort"]) == ("LoadBalancer", 30080)
    assert green["spec"]["type"] == "ClusterIP" and "nodePort" not in green["spec"]["ports"][0]
    for monitor in of(objects, "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"].items()
        (found,) = [name for name, each in services.items() if selector <= each["metadata"]["labels"].items()]
        assert found == monitor["metadata"]["name"]
    assert backends(routes(objects)["release-certify-gateway"][0]) == {
        "release-certify-blue-gateway": 30,
        "release-certify-green-gateway": 70,
    }


def test_an_ingress_has_each_bundles_path_as_it_is() -> None:
    (ingress,) = of(render(ALL), "Ingress")
    (rule,) = ingress["spec"]["rules"]
    found = {each["path"]: each["backend"]["service"]["name"] for each in rule["http"]["paths"]}
    assert found == {
        "/": "release-certify-gateway",
        "/v1/bundles/green": "release-certify-green-gateway",
        "/v1/bundles/small": "release-certify-small-gateway",
    }


def test_alerts_and_monitors_are_by_bundle() -> None:
    objects = render(ALL)
    assert names(objects, "ServiceMonitor") == names(objects, "Deployment")
    rules = {each["metadata"]["name"]: each["spec"]["groups"] for each in of(objects, "PrometheusRule")}
    assert list(rules) == ["release-certify", "release-certify-green", "release-certify-small"]
    for name, groups in rules.items():
        bundle = name.removeprefix("release-certify").removeprefix("-") or None
        jobs = set(re.findall(r'job="([^"]*)"', json.dumps(groups).replace('\\"', '"')))
        assert jobs == {f"{name}-gateway"}
        labels = [rule["labels"].get("bundle") for group in groups for rule in group["rules"] if "alert" in rule]
        assert set(labels) == {bundle}
    selector = {"monitoring": {"prometheusRule": {"enabled": True, "gatewaySelector": 'job="all"'}}}
    assert len(of(render({**TWO, **selector}), "PrometheusRule")) == 1


def test_scalers_ask_for_their_own_bundles_numbers() -> None:
    for scaler in of(render(ALL), "ScaledObject"):
        name = scaler["metadata"]["name"]
        assert scaler["spec"]["scaleTargetRef"]["name"] == name
        assert f'service="{name}"' in scaler["spec"]["triggers"][0]["metadata"]["query"]


def test_the_data_set_is_certified_by_the_bundle_that_is_named() -> None:
    def asked(**dataset: str) -> tuple[str, Object]:
        objects = render({**ALL, "dataset": {"enabled": True, "existingClaim": "data", **dataset}})
        (job,) = of(objects, "Job")
        (container,) = job["spec"]["template"]["spec"]["containers"]
        url = container["args"][container["args"].index("--url") + 1]
        component = job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        allowed = [
            each["metadata"]["name"]
            for each in of(objects, "NetworkPolicy")
            if f"'{component}'" in str(each["spec"].get("ingress"))
        ]
        return url, allowed

    assert asked() == ("http://release-certify-gateway.ml.svc:80", ["release-certify-gateway"])
    green = ("http://release-certify-green-gateway.ml.svc:80", ["release-certify-green-gateway"])
    assert asked(bundle="green") == green


def test_helm_test_asks_each_bundle() -> None:
    urls = {each["metadata"]["name"]: each["spec"]["containers"][0]["args"][1] for each in of(render(TWO), "Pod")}
    assert urls["release-certify-green-test"] == "http://release-certify-green-gateway.ml.svc:80"
    assert len(urls) == 3


def test_sets_that_share_a_service_accounts_name_have_one() -> None:
    shared = {"gateway": {"serviceAccount": {"name": "mine"}}, **TWO}
    assert names(render(shared), "ServiceAccount").count("mine") == 1
    only = {**shared, "ownBundle": False, "bundles": {"blue": {"weight": 100}, "green": {}}}
    assert names(render(only), "ServiceAccount").count("mine") == 1


def test_values_of_a_bundle_may_be_partial_false_or_null() -> None:
    mine = {"gateway": {"resources": {"limits": {"memory": "4Gi"}}, "podDisruptionBudget": {"enabled": False}}}
    none = {"gateway": {"resources": {"limits": {"cpu": None}}}}
    objects = render({"bundles": {"green": mine, "blue": none}})
    (container,) = containers(gateways(objects)["release-certify-green-gateway"]["spec"]["template"])
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "4Gi"}
    (container,) = containers(gateways(objects)["release-certify-blue-gateway"]["spec"]["template"])
    assert container["resources"]["limits"] == {"memory": "2Gi"}
    assert "release-certify-green-gateway" not in names(objects, "PodDisruptionBudget")
    assert "release-certify-gateway" in names(objects, "PodDisruptionBudget")


def test_a_single_server_is_replaced_by_one_beside_it() -> None:
    def steps(**triton: Any) -> Any:
        (found,) = [
            e for e in of(render({"triton": triton}), "Deployment") if e["metadata"]["name"].endswith("-triton")
        ]
        return found["spec"]["strategy"].get("rollingUpdate")

    assert steps() == {"maxSurge": 1, "maxUnavailable": 0}
    assert steps(replicas=3) == {"maxSurge": 0, "maxUnavailable": 1}
    assert steps(keda={"enabled": True}) == {"maxSurge": 1, "maxUnavailable": 0}
    assert steps(replicas=3, keda={"enabled": True, "minReplicas": 2}) == {"maxSurge": 0, "maxUnavailable": 1}
    assert steps(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}) == {
        "maxSurge": 0,
        "maxUnavailable": 1,
    }
    assert steps(strategy={"type": "Recreate"}) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ownBundle": False}, "ownBundle: expected true, or bundles"),
        ({"bundles": {"a": {"weight": 60}, "b": {"weight": 50}}}, "at most 100 together, got 110"),
        ({"ownBundle": False, "bundles": {"a": {"weight": 60}}}, "100 together, since ownBundle is false, got 60"),
        ({"bundles": {"a": {}}, "gateway": {"settings": {"root_path": "/x"}}}, "root_path: expected none"),
        ({"bundles": {"a": {"gateway": {"settings": {"root_path": "/x"}}}}}, "root_path: expected none"),
        ({"bundles": {"a": {}}, "dataset": {"enabled": True, "existingClaim": "d", "bundle": "b"}}, "one of bundles"),
        ({"bundles": {"A": {}}}, "A"),
        ({"bundles": {"a": {"weight": 101}}}, "weight"),
        ({"bundles": {"a": {"wieght": 1}}}, "wieght"),
        ({"bundles": {"a": {"triton": {"gpu": 1}}}}, "gpu"),
        ({"bundles": {"a": {"gateway": {"settings": {"max_queue": 3}}}}}, "max_queue"),
        ({"gateway": {"podLabels": {"certify/bundle": "mine"}}}, "certify/bundle"),
    ],
)  # fmt: skip
def test_bundles_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    from helm_python import HelmError

    with pytest.raises(HelmError, match=message):
        render(values)


def test_lint_is_clean_and_the_notes_name_every_bundle() -> None:
    import helm_python

    report = helm_python.lint(str(CHART), ALL, strict=True)
    assert not report["errors"]
    assert [m for m in report["messages"] if "icon is recommended" not in m["error"]] == []
    (notes,) = [text for path, text in rendered(TWO).items() if path.endswith("NOTES.txt")]
    assert "The bundle green: /v1/bundles/green, 10%" in notes and "Weights need httpRoute.enabled" in notes
