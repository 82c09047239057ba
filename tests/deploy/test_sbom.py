"""docker/sbom.py against CycloneDX's own schema; tests/images runs it in the images themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from install import ROOT

if not Path("/var/lib/dpkg/status").exists():
    pytest.skip("this is no Debian, as the images are", allow_module_level=True)


@pytest.fixture(scope="module")
def text() -> str:
    """Of this machine, as if it were an image."""
    command = [sys.executable, ROOT / "docker" / "sbom.py", "certify-gateway", "1.2.3"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def document(text: str) -> dict[str, Any]:
    return dict(json.loads(text))


def test_it_is_cyclonedx(text: str) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="needs cyclonedx-python-lib")
    schema = pytest.importorskip("cyclonedx.schema")
    strict = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert strict.validate_str(text) is None
    assert strict.validate_str(text.replace('"type": "platform"', '"type": "thing"')) is not None


def test_every_name_in_it_is_a_package_url(document: dict[str, Any]) -> None:
    packageurl = pytest.importorskip("packageurl", reason="needs cyclonedx-python-lib")
    for each in document["components"]:
        if each["type"] != "operating-system":
            found = packageurl.PackageURL.from_string(each["purl"])
            assert (found.name, found.version, found.to_string()) == (each["name"], each["version"], each["purl"])


def test_everything_that_is_installed_is_a_part_of_the_image(document: dict[str, Any]) -> None:
    assert document["metadata"]["component"]["name"] == "certify-gateway"
    (part,) = document["dependencies"]
    assert part == {"ref": "certify-gateway", "dependsOn": [each["bom-ref"] for each in document["components"]]}
    of_python = {(each["name"], each["version"]) for each in document["components"] if "pkg:pypi/" in each["bom-ref"]}
    installed = {(found.name.lower().replace("_", "-").replace(".", "-"), found.version) for found in distributions()}
    assert installed <= of_python
    shown = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package} ${Version}\n"]
    debian = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.splitlines()
    named = {(each["name"], each["version"]) for each in document["components"] if "pkg:deb/" in each["bom-ref"]}
    assert named == {tuple(line.split()[1:]) for line in debian if line.startswith("installed ")}


def test_an_image_without_a_name_is_refused() -> None:
    command = [sys.executable, ROOT / "docker" / "sbom.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "expected an image's name and version" in done.stderr
