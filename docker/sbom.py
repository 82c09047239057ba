"""What an image holds, as a CycloneDX 1.6 document: its Debian packages, its Python and that one's packages.

    docker run --rm --interactive --network none --entrypoint python3 certify-gateway:0.1.0 \\
        - certify-gateway 0.1.0 < docker/sbom.py > certify-gateway.cdx.json

It reads what dpkg and pip wrote at the installation, with the standard library of the image's own Python, and changes
nothing. Libraries that a wheel carries in itself are named by the wheel alone.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import sysconfig
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

Component = dict[str, Any]


def component(kind: str, purl: str, name: str, version: str, **more: Any) -> Component:
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl, **more}


def debian_packages() -> Iterator[Component]:
    """Of Debian or what descends from it (Triton's image is Ubuntu), where a package is installed."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), re.MULTILINE))
    distro = f"{release['ID']}-{release['VERSION_ID']}"
    yield {"type": "operating-system", "bom-ref": distro, "name": release["ID"], "version": release["VERSION_ID"]}
    for entry in Path("/var/lib/dpkg/status").read_text().split("\n\n"):
        field = dict(re.findall(r"^([\w-]+): (.*)$", entry, re.MULTILINE))
        if field.get("Status", "").endswith(" installed"):
            name, version, more = field["Package"], field["Version"], f"arch={field['Architecture']}&distro={distro}"
            purl = f"pkg:deb/{release['ID']}/{quote(name, safe='')}@{quote(version, safe=':')}?{more}"
            yield component("library", purl, name, version, supplier={"name": field["Maintainer"]})


def licences(found: Distribution) -> list[dict[str, Any]]:
    """An SPDX expression where the package has one (PEP 639), else the names that its authors chose."""
    for expression in found.metadata.get_all("License-Expression", []):
        return [{"expression": expression}]
    classifiers = [line.split(" :: ") for line in found.metadata.get_all("Classifier", [])]
    names = [words[-1] for words in classifiers if words[0] == "License" and words[-1] != "OSI Approved"]
    # Some packages put the whole text there: its first line then.
    text = "\n".join(found.metadata.get_all("License", []))
    names = names or [line.strip() for line in text.splitlines() if line.strip()][:1]
    return [{"license": {"name": name}} for name in names]


def python_packages() -> Iterator[Component]:
    """The interpreter, and what is installed for it: in this environment, and in the one that it was made from."""
    version = platform.python_version()
    yield component("platform", f"pkg:generic/python@{version}", "python", version)
    base = sysconfig.get_path("purelib", vars={"base": sys.base_prefix, "platbase": sys.base_prefix})
    for found in distributions(path=[*sys.path, base]):
        name, licensed = re.sub(r"[-_.]+", "-", found.name).lower(), licences(found)
        more = {"licenses": licensed} if licensed else {}
        yield component("library", f"pkg:pypi/{name}@{quote(found.version)}", name, found.version, **more)


def document(name: str, version: str) -> dict[str, Any]:
    components = {each["bom-ref"]: each for each in [*debian_packages(), *python_packages()]}
    properties = [{"name": "architecture", "value": platform.machine()}]
    image = {"type": "container", "bom-ref": name, "name": name, "version": version, "properties": properties}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {"timestamp": datetime.now(UTC).isoformat(timespec="seconds"), "component": image},
        "components": [components[ref] for ref in sorted(components)],
        "dependencies": [{"ref": name, "dependsOn": sorted(components)}],
    }


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(f"expected an image's name and version, got {sys.argv[1:]}")
    json.dump(document(*sys.argv[1:]), sys.stdout, indent=1)
