"""The gateway's two images, built and run as the chart's pods run them: restricted, and without any network."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests import pictures
from tests.deploy.conftest import Object, gateway_of, of, render
from tests.deploy.test_docker import COMPOSE
from tests.images.engine import ROOT, Container, Image, Store, container, why_not
from tests.servers import SEED_KEY

# A cold build of both takes minutes: debootstrap, then some hundred megabytes of packages.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1_800),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "can be built"),
]

# Millions of bytes, unpacked.
LARGEST = {"gateway": 450, "embedded": 1_000}
EXTRAS = {"gateway": None, "embedded": COMPOSE["services"]["embedded"]["build"]["args"]["EXTRAS"]}
# Of the gateway's, which has no Triton to ask here.
OPTIONS = {"gateway": ["--backend", "fake"], "embedded": []}
URL = "http://127.0.0.1:8000"


def objects(name: str) -> list[Object]:
    """The chart's, for OpenShift, where a pod's user is the namespace's."""
    return render({"openshift": True, "seedKey": {"value": SEED_KEY}, "embedded": {"enabled": name == "embedded"}})


def spec(name: str) -> Object:
    """The gateway's container in its pod."""
    (found,) = gateway_of(objects(name))["spec"]["template"]["spec"]["containers"]
    return dict(found)


def variables(name: str) -> dict[str, str]:
    """As the kubelet would resolve them."""
    found = {}
    for each in spec(name)["env"]:
        source = each.get("valueFrom", {})
        known = SEED_KEY if "secretKeyRef" in source else "2" if "resourceFieldRef" in source else None
        found[each["name"]] = str(each["value"] if known is None else known)
    return found


def wait_until_ready(running: Container) -> None:
    while running.popen.poll() is None:  # the test's own time limit is the only clock
        if status_of(running, "/readyz") == "200":
            return
        time.sleep(0.2)
    raise AssertionError(running.log.read_text())


def status_of(running: Container, path: str) -> str:
    """What an HTTP probe sees: a status, or nothing."""
    code = f"import httpx; print(httpx.get('{URL}{path}', timeout=3).status_code)"
    asked = running.start("python", "-c", code)
    return asked.communicate()[0].decode().strip()


@dataclass(frozen=True)
class Served:
    name: str
    image: Image
    running: Container


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(tmp_path_factory.mktemp("images"))
    try:
        store.make_base()
        yield store
    finally:
        store.remove()


@pytest.fixture(scope="module", params=["gateway", "embedded"])
def served(request: pytest.FixtureRequest, store: Store) -> Iterator[Served]:
    name: str = request.param
    image = store.build(f"certify-{name}", EXTRAS[name])
    with container(image, [*spec(name)["args"], *OPTIONS[name]], variables(name)) as running:
        wait_until_ready(running)
        yield Served(name, image, running)


def test_it_is_small(served: Served) -> None:
    assert served.image.megabytes() < LARGEST[served.name]


def test_its_process_has_no_name_no_capability_no_network_and_nothing_to_write_but_tmp(served: Served) -> None:
    status = dict(
        line.split(":\t", 1) for line in served.running.run("cat", "/proc/1/status").splitlines() if ":\t" in line
    )
    assert (status["Uid"].split()[0], status["Gid"].split()[0], status["NoNewPrivs"]) == ("1000650000", "0", "1")
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    code = (
        "import errno, pathlib, socket\n"
        "for name, expected in (('/opt/certify/x', errno.EROFS), ('/x', errno.EROFS)):\n"
        "    try: pathlib.Path(name).touch()\n"
        "    except OSError as exc: assert exc.errno == expected, exc\n"
        "    else: raise SystemExit(f'{name} was written')\n"
        "pathlib.Path('/tmp/x').touch()\n"
        "print([name for _, name in socket.if_nameindex()])"
    )
    assert served.running.run("python", "-c", code) == "['lo']"


def test_every_probe_of_its_pod_and_its_own_healthcheck_pass(served: Served) -> None:
    probes = [value["httpGet"] for key, value in spec(served.name).items() if key.endswith("Probe")]
    assert len(probes) == 3 and {probe["port"] for probe in probes} == {"http"}
    for path in {probe["path"] for probe in probes}:
        assert status_of(served.running, path) == "200"
    kind, *command = served.image.settings["Healthcheck"]["Test"]
    assert kind == "CMD"
    served.running.run(*command)


def certify(running: Container, samples: int) -> subprocess.Popen[bytes]:
    """A request under way; its picture is sent by its standard input."""
    code = (
        "import sys, httpx\n"
        "files, data = {'image': sys.stdin.buffer.read()}, {'samples': sys.argv[2]}\n"
        "print(httpx.post(sys.argv[1] + '/certify', files=files, data=data, timeout=None).raise_for_status().text)"
    )
    asked = running.start("python", "-c", code, URL, str(samples))
    assert asked.stdin is not None
    asked.stdin.write(pictures.png())
    asked.stdin.close()
    asked.stdin = None
    return asked


def test_it_certifies_an_image(served: Served) -> None:
    answer = json.loads(certify(served.running, 2_000).communicate()[0])
    assert answer["outcome"] in ("certified", "abstained") and 0 < answer["samples_used"] <= 2_000
    if served.name == "embedded":
        assert answer["runtime"]["engine"].startswith("openvino") and answer["bundle"]["name"] == "digits"


def test_helm_test_passes_in_a_pod_of_its_own(served: Served) -> None:
    (pod,) = of(objects(served.name), "Pod")
    (test,) = pod["spec"]["containers"]
    code, _ = test["args"]
    (tmp,) = [each["emptyDir"]["sizeLimit"] for each in pod["spec"]["volumes"] if each["name"] == "tmp"]
    with container(
        served.image, [code, URL], command=test["command"], network=served.running.network(), tmp=tmp[:-1]
    ) as tested:
        assert tested.popen.wait() == 0, tested.log.read_text()
    assert tested.log.read_text().startswith(("certified", "abstained"))


def test_it_is_told_to_end_while_it_answers(served: Served) -> None:
    """preStop, SIGTERM, the answer that was under way, and an end that is no failure."""
    arguments = [*spec(served.name)["args"], *OPTIONS[served.name]]
    with container(served.image, arguments, variables(served.name)) as running:
        wait_until_ready(running)
        running.run(*spec(served.name)["lifecycle"]["preStop"]["exec"]["command"])
        asked = certify(running, 20_000)
        # A fake's answer may be out before the first look.
        code = (
            "import httpx, time\n"
            f"while not sum(float(line.split()[-1]) for line in httpx.get('{URL}/metrics').text.splitlines() if\n"
            "    line.startswith(('certify_in_flight ', 'certify_requests_total{'))): time.sleep(0.05)"
        )
        running.run("python", "-c", code)
        assert asked.poll() is None or served.name == "gateway"
        assert running.stop() == 0, running.log.read_text()
        answer = json.loads(asked.communicate()[0])
    assert answer["outcome"] in ("certified", "abstained")


def test_its_bill_of_materials_names_what_it_holds(served: Served) -> None:
    with (ROOT / "docker" / "sbom.py").open() as script:
        listed = json.loads(served.running.run("python3", "-", "certify", "0", stdin=script))
    purls = {each["purl"].split("?")[0] for each in listed["components"] if "purl" in each}
    code = "import importlib.metadata as m; print(*{f'{d.name}@{d.version}' for d in m.distributions()})"
    installed = served.running.run("python", "-c", code).lower().replace("_", "-").replace(".", "-").split()
    assert len(installed) > 30
    of_python = {purl.removeprefix("pkg:pypi/").replace(".", "-") for purl in purls if purl.startswith("pkg:pypi/")}
    assert set(installed) <= of_python
    debian = served.running.run("dpkg-query", "--show", "--showformat", "${Package}\n").splitlines()
    names = {purl.split("/")[-1].split("@")[0] for purl in purls if purl.startswith("pkg:deb/")}
    assert {name.replace("+", "%2B") for name in debian} == names
    assert ("openvino" in {line.split("@")[0] for line in installed}) is (served.name == "embedded")
    assert not any(line.startswith("openvino-telemetry@") for line in installed)
