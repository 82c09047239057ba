"""The release's workflow, as far as it goes without its runner: what it names is there, and its first check works."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import CHART, ROOT

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
    script = "".join(step.get("run", "") for step in JOBS["chart"]["steps"])
    assert f"for name in {' '.join(image['name'] for image in images)}; do" in script


def test_what_is_pushed_is_signed_and_says_what_is_in_it() -> None:
    for name in ("image", "chart"):
        assert JOBS[name]["permissions"]["id-token"] == "write"
        assert any("cosign sign" in step.get("run", "") for step in JOBS[name]["steps"])
    (build,) = [step["with"] for step in JOBS["image"]["steps"] if step.get("id") == "build"]
    assert build["push"] is True and build["sbom"] is True and build["provenance"] == "mode=max"
    assert WORKFLOW["permissions"] == {"contents": "read"}


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
