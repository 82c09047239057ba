"""Keys that are made once: what the chart does with a cluster that can be asked, and without one."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from certify.service.http.keys import ApiKeys
from tests.deploy.conftest import CHART, EVERYTHING, Object, gateway_of, gateways, objects_of, of, render, rendered

CLIENTS = [
    {"name": "camera-app", "samplesPerMinute": 600000, "places": 8},
    {"name": "phone", "samplesPerMinute": 1000, "places": 1},
]
SECRETS = "/api/v1/namespaces/ml/secrets"


class Cluster(ThreadingHTTPServer):
    """As much of an API server as Helm's `lookup` asks: one namespace's Secrets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Secrets)
        self.secrets: dict[str, Object] = {}

    def keep(self, objects: list[Object]) -> None:
        """What `helm install` would have written."""
        self.secrets |= {secret["metadata"]["name"]: secret for secret in of(objects, "Secret")}

    def render(self, values: dict[str, Any]) -> list[Object]:
        """As `helm install` and `helm upgrade` do."""
        from helm_python import Chart, Config

        named = {"name": "test", "cluster": {"server": f"http://127.0.0.1:{self.server_address[1]}"}}
        context = {"name": "test", "context": {"cluster": "test", "user": ""}}
        file = {"apiVersion": "v1", "kind": "Config", "clusters": [named], "contexts": [context]}
        own = json.dumps({**file, "current-context": "test"})  # not that of whoever runs the tests
        with Config(kubeconfig_content=own, namespace="ml") as config, Chart.load(str(CHART)) as chart:
            return objects_of(config.render(chart, values, name="release", namespace="ml"))


class _Secrets(BaseHTTPRequestHandler):
    server: Cluster

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/api/v1":
            verbs = {"name": "secrets", "namespaced": True, "kind": "Secret", "verbs": ["get", "list"]}
            self._answer(200, {"kind": "APIResourceList", "groupVersion": "v1", "resources": [verbs]})
        elif path == SECRETS:
            items = list(self.server.secrets.values())
            self._answer(200, {"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": items})
        elif (secret := self.server.secrets.get(path.removeprefix(SECRETS + "/"))) is not None:
            self._answer(200, secret)
        else:
            self._answer(404, {"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound"})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def text(secret: Object, entry: str) -> str:
    return base64.b64decode(secret["data"][entry]).decode()


def checksum(objects: list[Object]) -> str | None:
    found = gateway_of(objects)["spec"]["template"]["metadata"].get("annotations", {}).get("checksum/seed-key")
    assert found is None or isinstance(found, str)
    return found


@pytest.mark.parametrize("values", [{}, EVERYTHING, {"apiKeys": {"clients": CLIENTS}}], ids=["default", "all", "keys"])
def test_two_renderings_without_a_cluster_are_equal_and_make_no_key(values: dict[str, Any]) -> None:
    first, second = rendered(values), rendered(values)
    assert first == second
    assert not of(render(values), "Secret")
    # The pods wait for the Secret that somebody else makes.
    (container,) = gateway_of(render(values))["spec"]["template"]["spec"]["containers"]
    (key,) = [each for each in container["env"] if each["name"] == "CERTIFY_SEED_KEY"]
    assert key["valueFrom"]["secretKeyRef"] == {"name": "release-certify-seed", "key": "seed-key"}


def test_a_key_that_was_asked_for_is_made_without_a_cluster() -> None:
    (secret,) = of(render({"seedKey": {"generate": "always"}}), "Secret")
    assert len(text(secret, "seed-key")) >= 32


def test_the_key_of_the_first_install_is_kept_by_upgrades_and_by_uninstalling(cluster: Cluster) -> None:
    first = cluster.render({})
    (secret,) = of(first, "Secret")
    assert len(text(secret, "seed-key")) >= 32 and secret["metadata"]["name"] == "release-certify-seed"
    assert secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    cluster.keep(first)
    later = cluster.render({"gateway": {"replicas": 5}})
    assert of(later, "Secret") == of(first, "Secret") and checksum(later) == checksum(first) is not None


def test_where_a_key_is_left_to_the_user_none_is_made(cluster: Cluster) -> None:
    assert not of(cluster.render({"seedKey": {"generate": "never"}}), "Secret")


def test_a_secret_of_the_users_comes_first_and_its_change_starts_pods_again(cluster: Cluster) -> None:
    values = {"seedKey": {"existingSecret": "mine", "existingSecretKey": "k", "value": "v" * 40}}
    assert not of(cluster.render(values), "Secret") and checksum(cluster.render(values)) is None
    sums = []
    for key in (b"a" * 40, b"a" * 40, b"b" * 40):
        data = {"k": base64.b64encode(key).decode(), "other": base64.b64encode(key * len(sums)).decode()}
        cluster.secrets["mine"] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "data": data}
        sums.append(checksum(cluster.render(values)))
    assert sums[0] == sums[1] != sums[2] and None not in sums


def test_another_signing_key_starts_pods_again(cluster: Cluster) -> None:
    values = {"signingKey": {"existingSecret": "mine"}}
    sums = []
    for key in (b"a", b"a", b"b"):
        data = {"signing.pem": base64.b64encode(key).decode()}
        cluster.secrets["mine"] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "data": data}
        pod = gateway_of(cluster.render(values))["spec"]["template"]["metadata"]
        sums.append(pod["annotations"]["checksum/signing-key"])
    assert sums == [hashlib.sha256(key).hexdigest() for key in (b"a", b"a", b"b")]


def test_bundles_beside_each_other_have_one_seed_key(cluster: Cluster) -> None:
    objects = cluster.render({"bundles": {"green": {}}})
    assert len(of(objects, "Secret")) == 1
    found = [each["spec"]["template"]["metadata"]["annotations"] for each in gateways(objects).values()]
    assert len(found) == 2 and found[0] == found[1] == {
        "checksum/seed-key": hashlib.sha256(text(of(objects, "Secret")[0], "seed-key").encode()).hexdigest()
    }


def test_a_given_value_is_the_key() -> None:
    objects = render({"seedKey": {"value": "k" * 20 + "l" * 20}})
    (secret,) = of(objects, "Secret")
    assert text(secret, "seed-key") == "k" * 20 + "l" * 20
    assert checksum(objects) == hashlib.sha256(b"k" * 20 + b"l" * 20).hexdigest()


def test_clients_keys_are_made_once_and_the_gateway_reads_their_file(cluster: Cluster, tmp_path: Path) -> None:
    values = {"apiKeys": {"clients": CLIENTS[:1]}}
    cluster.keep(cluster.render(values))
    first = cluster.secrets["release-certify-api-keys"]
    assert first["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    cluster.keep(cluster.render({"apiKeys": {"clients": CLIENTS}}))
    both = cluster.secrets["release-certify-api-keys"]
    assert text(both, "camera-app.key") == text(first, "camera-app.key") != text(both, "phone.key")
    (tmp_path / "clients").write_text(text(both, "clients"))
    keys = ApiKeys(tmp_path / "clients")
    for each in CLIENTS:
        client = keys.client(f"Bearer {text(both, str(each['name']) + '.key')}")
        assert (client.name, client.samples_a_minute, client.places) == tuple(each.values())


@pytest.mark.parametrize(
    ("values", "secret", "entry"),
    [
        ({"existingSecret": "clients", "existingSecretKey": "file"}, "clients", "file"),
        ({"existingSecret": "clients", "clients": CLIENTS}, "clients", "clients"),
        ({"clients": CLIENTS}, "release-certify-api-keys", "clients"),
    ],
)
def test_api_keys_are_mounted_as_a_folder_that_the_containers_user_can_read(
    values: dict[str, Any], secret: str, entry: str
) -> None:
    """A folder, not a subPath, follows a Secret that changes. A Secret's files belong to root, and to fsGroup."""
    pod = gateway_of(render({"apiKeys": values}))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "api-keys"]
    assert environment["CERTIFY_API_KEYS_FILE"] == mount["mountPath"] + "/clients" and "subPath" not in mount
    (volume,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "api-keys"]
    assert volume["secretName"] == secret and volume["items"] == [{"key": entry, "path": "clients"}]
    assert volume["defaultMode"] == 0o440 and pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]


def test_a_signing_key_is_mounted_from_a_secret_of_yours_and_never_made() -> None:
    values = {"signingKey": {"existingSecret": "signing", "existingSecretKey": "key.pem"}}
    pod = gateway_of(render(values))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "signing-key"]
    assert environment["CERTIFY_SIGNING_KEY_FILE"] == mount["mountPath"] + "/signing.pem" and mount["readOnly"]
    (volume,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "signing-key"]
    assert volume["secretName"] == "signing" and volume["items"] == [{"key": "key.pem", "path": "signing.pem"}]
    without = gateway_of(render({}))["spec"]["template"]["spec"]
    assert not [each for each in without["volumes"] if each["name"] == "signing-key"]
