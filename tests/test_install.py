"""constraints.txt holds what pyproject.toml asks for, with hashes and no address; install.py reads it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

import install

ROOT = install.ROOT
EXTRAS = install.PYPROJECT["project"]["optional-dependencies"]
LINES = [
    *install.PYPROJECT["build-system"]["requires"],
    *install.PYPROJECT["project"]["dependencies"],
    *(line for lines in EXTRAS.values() for line in lines if not line.startswith("certify[")),
]


@pytest.mark.parametrize("line", LINES)
def test_every_requirement_is_pinned_to_a_version_that_it_allows(line):
    wanted = Requirement(line)
    block = install.blocks()[install.canonical(wanted.name)]
    assert wanted.specifier.contains(block.split("==")[1].split()[0])


def test_every_pin_has_hashes_and_no_address():
    text = (ROOT / "constraints.txt").read_text()
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in install.blocks().values())
    assert not re.search(r"://|^-|index|trusted|find-links|\n/", text, re.MULTILINE)


def test_an_extra_brings_what_it_needs_and_no_more():
    base = "".join(install.needed(install.direct([])))
    assert "\nfastapi==" in base and "\nstarlette==" in base and "\nsetuptools==" in base
    assert "torch==" not in base and "\npytest==" not in base
    assert {"torch", "openvino", "pytest", "mypy"} <= install.direct(["dev"])
    light = "".join(install.needed(install.direct(["cpu"])))
    assert "\nopenvino==" in light
    assert not any(f"\n{name}==" in light for name in ("torch", "diffusers", "timm", "safetensors", "pandas"))


def test_an_unknown_extra_is_told_what_there_is():
    command = [sys.executable, "install.py", "--report", "-", "everything"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "EXTRA: expected one of" in done.stderr and "got everything" in done.stderr


def test_a_package_that_has_another_version_for_each_python_is_taken_with_all_of_them() -> None:
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert len(set(pinned)) < len(pinned)  # or this shows nothing
    assert sum(block.count("==") >= 1 for block in install.blocks().values()) == len(set(pinned))
    for name, block in install.blocks().items():
        assert len(re.findall(rf"^{re.escape(name)}==", block, re.MULTILINE)) == pinned.count(name)


def test_slim_removes_what_other_devices_and_tests_load_and_nothing_else(tmp_path):
    libs = tmp_path / "openvino" / "libs"
    libs.mkdir(parents=True)
    kept = {"libopenvino.so.2641", "libopenvino_intel_cpu_plugin.so", "libopenvino_ir_frontend.so.2641", "libtbb.so.12"}
    gone = {"libopenvino_intel_gpu_plugin.so", "libopenvino_intel_npu_plugin.so", "cache.json"}
    for name in kept | gone:
        (libs / name).touch()
    for name in ("numpy/tests", "scipy/special/tests/data", "scipy/special/_tests", "fastapi/tests"):
        (tmp_path / name).mkdir(parents=True)
    install.slim(tmp_path)
    assert {path.name for path in libs.iterdir()} == kept
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*tests")}
    assert left == {"scipy/special/_tests", "fastapi/tests"}
    install.slim(tmp_path / "without openvino")
