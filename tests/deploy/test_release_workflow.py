"""The release's workflow, as far as it goes without its runner: what it names is there, and its first check works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import CHART, ROOT, containers, objects_of, pods, rendered

yaml = pytest.importorskip("yaml")
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
JOBS = WORKFLOW["jobs"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_every_image_of_the_chart_is_built_and_named_by_digest() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    images = JOBS["image"]["strategy"]["matrix"]["include"]
    with_image = {name for name, part in values.items() if isinstance(part, dict) and "image" in part}
    assert {image["name"] for image in images} == with_image
    for image in images:
        assert "ARG EXTRAS=" in (ROOT / image["file"]).read_text()
        assert values[image["name"]]["image"]["repository"] == f"certify-{image['name']}"
    assert f"for name in {' '.join(image['name'] for image in images)}; do" in script("chart", "digests/")


def test_what_is_pushed_is_signed_and_says_what_is_in_it() -> None:
    for name in ("image", "chart"):
        assert JOBS[name]["permissions"]["id-token"] == "write"
        assert any("cosign sign" in step.get("run", "") for step in JOBS[name]["steps"])
    (build,) = [step["with"] for step in JOBS["image"]["steps"] if step.get("id") == "build"]
    assert build["push"] is True and build["provenance"] == "mode=max"
    assert WORKFLOW["permissions"] == {"contents": "read"}


def script(job: str, word: str) -> str:
    """The one step's that has this word."""
    (found,) = [step["run"] for step in JOBS[job]["steps"] if word in step.get("run", "")]
    return str(found)


def bash(text: str, folder: Path, **variables: str) -> None:
    """As a runner runs it."""
    command = ["bash", "-e", "-o", "pipefail", "-c", text]
    subprocess.run(command, cwd=folder, env={**os.environ, **variables}, check=True, capture_output=True)


DIGESTS = {name: f"sha256:{number:064x}" for number, name in enumerate(["gateway", "embedded", "triton"])}


@pytest.mark.parametrize("embedded", [False, True])
def test_the_released_chart_runs_the_released_images_and_no_other(embedded: bool, tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "helm" / "certify")
    (tmp_path / "digests").mkdir()
    for name, digest in DIGESTS.items():
        (tmp_path / "digests" / name).write_text(f"{digest}\n")
    bash(script("chart", "sed --in-place"), tmp_path, REGISTRY="ghcr.io/somebody")
    values = {"embedded": {"enabled": embedded}, "imageRegistry": "mirror.internal", "seedKey": {"value": "k" * 32}}
    templates = rendered(values, chart=tmp_path / "helm" / "certify")
    images = {each["image"] for _, pod in pods(objects_of(templates)) for each in containers(pod)}
    expected = ["embedded"] if embedded else ["gateway", "triton"]
    assert images == {f"ghcr.io/somebody/certify-{name}@{DIGESTS[name]}" for name in expected}


# Only what stands between the script and the image: its Python gets the arguments behind the image's name.
DOCKER = """#!/bin/sh
while [ $# -gt 0 ]; do case $1 in *@sha256:*) shift; exec python3 "$@";; buildx) exit;; *) shift;; esac; done; exit 1
"""


def test_every_platform_of_an_image_gets_a_bill_of_materials(tmp_path: Path) -> None:
    if not Path("/var/lib/dpkg/status").exists():
        pytest.skip("this is no Debian, as the images are")
    for name, text in {"docker": DOCKER, "cosign": '#!/bin/sh\necho "$@" >> attested\n'}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python3").symlink_to(sys.executable)
    shutil.copytree(ROOT / "docker", tmp_path / "work" / "docker")
    variables = {"IMAGE": "ghcr.io/somebody/certify-gateway", "DIGEST": DIGESTS["gateway"], "NAME": "gateway"}
    variables |= {"PLATFORMS": "linux/amd64,linux/arm64", "VERSION": VERSION}
    path = f"{tmp_path}:{os.environ['PATH']}"
    bash(script("image", "docker/sbom.py"), tmp_path / "work", **variables, PATH=path)
    written = sorted((tmp_path / "work" / "sboms").iterdir())
    assert [file.name for file in written] == [f"certify-gateway-{arch}.cdx.json" for arch in ("amd64", "arm64")]
    for file, line in zip(written, (tmp_path / "work" / "attested").read_text().splitlines(), strict=True):
        assert json.loads(file.read_text())["metadata"]["component"]["version"] == VERSION
        assert f"--predicate sboms/{file.name} {variables['IMAGE']}@{DIGESTS['gateway']}" in line


@pytest.mark.parametrize(("tag", "goes_on"), [(f"v{VERSION}", True), ("v99.0.0", False)])
def test_a_tag_that_is_no_version_of_package_chart_and_changelog_ends_it(
    tag: str, goes_on: bool, tmp_path: Path
) -> None:
    (step,) = [step for step in JOBS["version"]["steps"] if "run" in step]
    variables = {"TAG": tag, "OWNER": "Some-Body", "GITHUB_OUTPUT": str(tmp_path / "output")}
    command = ["bash", "-e", "-o", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, check=False)
    assert (done.returncode == 0) is goes_on
    if goes_on:
        assert (tmp_path / "output").read_text() == f"version={VERSION}\nowner=some-body\n"


def test_the_pattern_of_tags_is_that_of_versions() -> None:
    (pattern,) = WORKFLOW[True]["push"]["tags"]  # YAML 1.1 reads `on` as true
    assert re.fullmatch(pattern.replace(".", r"\."), f"v{VERSION}")
