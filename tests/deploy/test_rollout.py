"""From one bundle to another under load, by the chart's routes: two real gateways behind a proxy that reads them."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("openvino", reason="the embedded backend needs openvino (pip install 'certify[cpu]')")

from certify.service.client import Client
from tests import pictures
from tests.deploy.conftest import Object, gateways, of, render
from tests.servers import Process, real_process

# Waiting has no clock of its own here.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CLIENTS = 16
VALUES: dict[str, Any] = {
    "fullnameOverride": "c",
    "embedded": {"enabled": True},
    "gateway": {"preStopSeconds": 1, "settings": {"workers": 1}},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "front"}]},
}
SAID = ("label", "radius", "stages", "samples_used", "outcome", "bundle")


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """One for all threads: making one takes longer than asking."""
    with httpx.Client(timeout=120, limits=httpx.Limits(max_connections=None)) as client:
        yield client


def values(weight: int, **more: Any) -> dict[str, Any]:
    return {**VALUES, "bundles": {"green": {"weight": weight, "embedded": {"bundle": "digits_plain"}}}, **more}


@dataclass
class Front:
    """As much of Gateway API as the chart's routes use: path prefixes, the longest first; rewriting; weights."""

    http: httpx.Client
    addresses: dict[str, str]  # Service -> where it is
    rules: list[tuple[str, Object]] = field(default_factory=list)  # path prefix, rule
    went: Counter[str] = field(default_factory=Counter)
    url: str = ""
    dice: random.Random = field(default_factory=lambda: random.Random(0))

    def apply(self, objects: list[Object]) -> None:
        found = []
        for route in of(objects, "HTTPRoute"):
            for rule in route["spec"]["rules"]:
                prefixes = [match["path"]["value"] for match in rule.get("matches", [])] or ["/"]
                found += [(prefix.rstrip("/"), rule) for prefix in prefixes]
        self.rules = sorted(found, key=lambda pair: len(pair[0]), reverse=True)

    def route(self, path: str) -> tuple[str, str]:
        """(address, path there)."""
        prefix, rule = next((p, r) for p, r in self.rules if path == p or path.startswith(p + "/"))
        for each in rule.get("filters", []):
            path = each["urlRewrite"]["path"]["replacePrefixMatch"].rstrip("/") + path.removeprefix(prefix) or "/"
        backends = {backend["name"]: backend.get("weight", 1) for backend in rule["backendRefs"]}
        (name,) = self.dice.choices(list(backends), weights=list(backends.values()))
        self.went[name] += 1
        return self.addresses[name], path


@contextlib.contextmanager
def serving(front: Front) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            address, path = front.route(self.path)
            kept = {name: value for name, value in self.headers.items() if name.lower() in ("content-type", "accept")}
            answer = front.http.request(self.command, address + path, content=content, headers=kept)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["content-type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        front.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def ask(http: httpx.Client, url: str, number: int) -> dict[str, Any]:
    """The same of each number, whoever asks."""
    data = {"samples": "256", "alpha": str((10 + number) / 1e4)}
    reply = http.post(f"{url}/certify", files={"image": pictures.png(number)}, data=data)
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    return {name: answer[name] for name in SAID}


def gateway(log: Path, deployment: Object) -> contextlib.AbstractContextManager[Process]:
    """As its pod has it."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = {each["name"]: each.get("value") for each in container["env"]}
    names = ("backend", "bundle", "engine", "workers", "root_path", "grace_seconds")
    flags = {name: value for name in names if (value := given.get(f"CERTIFY_{name.upper()}"))}
    return real_process(log, **flags)


def end(process: Process, deployment: Object) -> None:
    """As the kubelet does it: preStop, then SIGTERM."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    _, *code = container["lifecycle"]["preStop"]["exec"]["command"]
    subprocess.run([sys.executable, *code], check=True)
    process.popen.terminate()
    assert process.popen.wait() == 0


@dataclass
class Load:
    """Sixteen clients that never rest; what came back, by the phase in which it was asked and answered."""

    front: Front
    right: dict[str, list[dict[str, Any]]]  # of each bundle's digest, by number
    phase: str = "before"
    stop: bool = False
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)  # phase, digest
    failures: list[str] = field(default_factory=list)

    def client(self, number: int) -> None:
        for turn in itertools.count():
            if self.stop:
                return
            began = self.phase
            named = turn % 4 == 3
            try:
                path = "/v1/bundles/green" if named else "/v1"
                answer = ask(self.front.http, self.front.url + path, number)
                digest = answer["bundle"]["digest"]
                assert answer == self.right[digest][number], "an answer of no bundle, or of two"
            except Exception as error:
                self.failures.append(f"{began}: {error!r}")
                return
            place = "named" if named else began if began == self.phase else "between"
            self.answers[place, digest] += 1

    def until(self, phase: str, *digests: str) -> None:
        self.phase = phase
        while not self.failures and any(self.answers[phase, digest] < CLIENTS for digest in digests):
            time.sleep(0.05)

    def bundles(self, phase: str) -> set[str]:
        return {digest for place, digest in self.answers if place == phase}


def test_a_roll_out_under_sixteen_clients_fails_none_and_mixes_no_answer(tmp_path: Path, http: httpx.Client) -> None:
    start = render(values(0))
    own, green = gateways(start)["c-gateway"], gateways(start)["c-green-gateway"]
    with gateway(tmp_path / "own", own) as old, gateway(tmp_path / "green", green) as new:
        right = {}
        for process in (old, new):
            answers = [ask(http, process.url, number) for number in range(CLIENTS)]
            (digest,) = {answer["bundle"]["digest"] for answer in answers}
            right[digest] = answers
        a, b = right
        assert [answer["stages"] for answer in right[a]] != [answer["stages"] for answer in right[b]]
        front = Front(http, {"c-gateway": old.url, "c-green-gateway": new.url})
        front.apply(start)
        load = Load(front, right)
        with serving(front):
            clients = [threading.Thread(target=load.client, args=(number,)) for number in range(CLIENTS)]
            for each in clients:
                each.start()
            try:
                load.until("before", a)
                load.phase = "between"
                front.apply(render(values(50)))
                load.until("both", a, b)
                load.phase = "between"
                front.apply(render(values(100)))
                load.until("after", b)
                load.phase = "between"
                only = render(values(100, ownBundle=False))
                front.apply(only)
                assert list(gateways(only)) == ["c-green-gateway"]
                end(old, own)
                load.until("alone", b)
                with Client(f"{front.url}/v1/bundles/green") as client:
                    info = client.info()
                    answered = client.certify(pictures.png(), samples=256)
                openapi = http.get(f"{front.url}/v1/bundles/green/openapi.json").json()
            finally:
                load.stop = True
                for each in clients:
                    each.join()
        assert not load.failures, json.dumps(load.failures[:3])
        assert (load.bundles("before"), load.bundles("both")) == ({a}, {a, b})
        assert load.bundles("after") == load.bundles("alone") == load.bundles("named") == {b}
        assert info.bundle.digest == answered.bundle.digest == b
        assert openapi["servers"] == [{"url": "/v1/bundles/green"}]
        # Without a proxy that rewrites, as behind an Ingress.
        assert (
            ask(http, f"{new.url}/v1/bundles/green", 0) == ask(http, f"{new.url}/v1/bundles/green/v1", 0) == right[b][0]
        )
