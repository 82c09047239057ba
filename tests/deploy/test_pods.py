"""What the chart's pods run: the gateway's environment, the data-set Job's shards, `helm test`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import pictures
from tests.deploy.conftest import EVERYTHING, Object, gateway_of, of, render
from tests.servers import ROOT, Process, real_process


def environment(values: dict[str, Any]) -> dict[str, Any]:
    """Of the gateway: name -> value, or where it comes from."""
    (container,) = gateway_of(render(values))["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_numbers_reach_the_gateway_as_they_are_written() -> None:
    """Helm's numbers are floats, and its text of one from a million on is 1e+06, which is no integer."""
    settings = {"max_body_bytes": 20971520, "max_pixels": 1000000, "body_seconds": 2.5, "tracing": True}
    found = environment({"gateway": {"settings": settings}})
    assert found["CERTIFY_MAX_BODY_BYTES"] == "20971520"
    assert found["CERTIFY_MAX_PIXELS"] == "1000000"
    assert found["CERTIFY_BODY_SECONDS"] == "2.5"
    assert found["CERTIFY_TRACING"] == "true"


def test_the_embedded_gateway_is_told_its_engine_and_samples_on_as_many_threads_as_it_may_use() -> None:
    found = environment({"embedded": {"enabled": True}})
    assert found["CERTIFY_ENGINE"] == "auto" and "CERTIFY_MICRO_BATCH" not in found
    assert found["CERTIFY_WORKERS"] == {"resourceFieldRef": {"containerName": "gateway", "resource": "limits.cpu"}}
    tuned = {"embedded": {"enabled": True, "engine": "torch", "microBatch": 32}}
    found = environment({**tuned, "gateway": {"settings": {"workers": 3}}})
    assert (found["CERTIFY_ENGINE"], found["CERTIFY_MICRO_BATCH"], found["CERTIFY_WORKERS"]) == ("torch", "32", "3")
    # Triton's engine is the export's; a gateway has none.
    assert not {"CERTIFY_ENGINE", "CERTIFY_MICRO_BATCH", "CERTIFY_WORKERS"} & environment({}).keys()


def test_other_variables_of_the_container_come_last() -> None:
    given = [{"name": "OTEL_SERVICE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    found = environment({"gateway": {"extraEnv": given, "settings": {"tracing": True}}})
    assert list(found)[-1] == "OTEL_SERVICE_NAME" and found["OTEL_SERVICE_NAME"] == given[0]["valueFrom"]


def test_gateways_wait_longer_for_their_start_than_triton_may_take_to_load() -> None:
    for seconds in (300, 1200):
        gateway = gateway_of(render({"triton": {"startupSeconds": seconds}}))
        (container,) = gateway["spec"]["template"]["spec"]["containers"]
        probe = container["startupProbe"]
        assert probe["failureThreshold"] * probe["periodSeconds"] == seconds + 60
        assert {"name": "CERTIFY_START_SECONDS", "value": str(seconds + 60)} in container["env"]


def test_the_longest_release_name_makes_names_that_kubernetes_takes() -> None:
    objects = render(EVERYTHING, name="r" * 53)
    for each in objects:
        assert len(each["metadata"]["name"]) <= 63
    (job,) = of(objects, "Job")
    # An indexed pod's host name is the Job's name and its index.
    assert len(job["metadata"]["name"]) + len("-9999") <= 63


def job(**changes: Any) -> Object:
    (found,) = of(render({"dataset": {"enabled": True, "existingClaim": "data", **changes}}), "Job")
    return found


def test_other_work_is_another_job_since_a_job_cannot_be_changed() -> None:
    first = job()["metadata"]["name"]
    assert job()["metadata"]["name"] == first
    others = [job(shards=5), job(data="/data/other.npz"), job(args=["--radius", "0.25"])]
    assert len({first, *(other["metadata"]["name"] for other in others)}) == 4


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with real_process(tmp_path_factory.mktemp("gateway") / "log") as process:
        yield process


def run(arguments: list[str], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """As the container does, with this Python's `certify` on the path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-c", *arguments], cwd=cwd, env={**os.environ, "PATH": path, **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_jobs_pods_certify_each_image_of_the_data_set_once(service: Process, tmp_path: Path) -> None:
    pictures.class_folders(tmp_path / "images", images=7, classes=2)
    spec = job(shards=3, args=["--samples", "640"])["spec"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", 3)
    (container,) = spec["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-c"]
    code, data, out, *rest = container["args"]
    assert (data, out, rest[0], rest[1]) == ("/data/test.npz", "/data/results", "3", "--url")
    for index in range(3):
        arguments = [code, str(tmp_path / "images"), str(tmp_path / "results"), "3", "--url", service.url, *rest[3:]]
        done = run(arguments, tmp_path, JOB_COMPLETION_INDEX=str(index))
        assert done.returncode == 0, done.stderr
    tables = sorted((tmp_path / "results").glob("*.tsv"))
    assert [table.name for table in tables] == [f"shard-{number}-of-3.tsv" for number in (1, 2, 3)]
    rows = [line.split("\t")[0] for table in tables for line in table.read_text().splitlines()[1:]]
    assert sorted(map(int, rows)) == list(range(7))


# Python may be in root's home, which is root's alone: then that is all that /root has.
SANDBOX = f"""
python={Path(sys.base_prefix)}
case $python in /root/*)
    mount --bind $python /mnt && mount -t tmpfs -o mode=755 tmpfs /root && mkdir -p $python &&
    mount --move /mnt $python || exit;;
esac
mount -o remount,ro,bind / && mount -t tmpfs tmpfs /tmp || exit
user="--reuid 1000650000 --regid 0 --clear-groups"
exec setpriv $user --bounding-set=-all --inh-caps=-all --no-new-privs env HOME=/home/nobody-has-this "$@"
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_an_embedded_gateway_serves_on_a_read_only_root_without_a_home_or_capabilities(
    engine: str, tmp_path: Path
) -> None:
    """As in its container on OpenShift: a user that the image does not know, and a mount namespace of its own, where
    only /tmp can be written."""
    pytest.importorskip(engine, reason="needs pip install 'certify[cpu,torch]'", exc_type=ImportError)
    if ROOT.is_relative_to("/tmp"):
        pytest.skip("this checkout is under /tmp, where the test puts a file system of its own")
    prefix = ("unshare", "--mount", "sh", "-c", SANDBOX, "sh")
    try:
        subprocess.run([*prefix, sys.executable, "-c", "import certify"], cwd=ROOT, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"no mount namespace can be had here, or others cannot read this checkout: {exc}")
    written = subprocess.run([*prefix, "touch", ROOT / "written"], check=False, capture_output=True)
    assert written.returncode != 0 and not (ROOT / "written").exists()
    with real_process(tmp_path / "log", prefix=prefix, backend="embedded", engine=engine, workers=1) as service:
        answer = httpx.post(
            f"{service.url}/certify", files={"image": pictures.png()}, data={"samples": "640"}, timeout=None
        )
    assert answer.status_code == 200 and answer.json()["runtime"]["engine"].startswith(engine)


def helm_test() -> list[str]:
    (pod,) = of(render({}), "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["python", "-c"]
    code, url = container["args"]
    assert url == "http://release-certify-gateway.ml.svc:80"
    return [code]


@pytest.mark.slow
def test_helm_test_certifies_a_picture(service: Process, tmp_path: Path) -> None:
    done = run([*helm_test(), service.url], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("certified", "abstained"))


@pytest.mark.slow
def test_helm_test_takes_the_wish_for_a_key_for_an_answer(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"camera {'0' * 64} 1000 1\n")
    with real_process(tmp_path / "log", api_keys_file=keys) as service:
        done = run([*helm_test(), service.url], tmp_path)
    assert done.returncode == 0 and "asks for a key" in done.stdout


def test_helm_test_fails_where_nothing_certifies(service: Process, tmp_path: Path) -> None:
    assert run([*helm_test(), f"{service.url}/nowhere"], tmp_path).returncode != 0
