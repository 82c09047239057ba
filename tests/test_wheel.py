"""The built wheel, in an environment without torch and away from the sources: what a user of `pip install` has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from certify.models.triton.server import free_ports
from install import ROOT
from tests import pictures

pytestmark = pytest.mark.slow

SOURCES = ("certify", "service", "models", "pyproject.toml", "constraints.txt", "install.py", "README.md", "LICENSE")
# What tests the gateway and the statistics from outside; the others read the sources, or need torch or Triton.
SUITES = ("core", "answering", "http", "research", "service")


def run(*command: str | Path, cwd: Path) -> str:
    """What the command prints. No source folder is on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheel")


@pytest.fixture(scope="module")
def python(place: Path) -> Path:
    """Of an environment with what the base and the tests need, from constraints.txt, and nothing else."""
    run(sys.executable, "-m", "venv", place / "env", cwd=place)
    interpreter = place / "env" / "bin" / "python"
    run(interpreter, ROOT / "install.py", "--dependencies-only", "test", cwd=place)
    return interpreter


@pytest.fixture(scope="module")
def wheel(place: Path, python: Path) -> Path:
    """Built from a copy: a build leaves folders behind."""
    source = place / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy(ROOT / name, source / name)
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place), str(source)]
    run(python, "-m", "pip", *build, cwd=place)
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(python: Path, wheel: Path, place: Path) -> Path:
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=place)
    return python


def test_the_only_top_level_name_is_certify(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"certify"}
    sources = {
        f"certify/{path.relative_to(ROOT)}"
        for folder in ("service", "models")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= set(names)
    assert {"certify/py.typed", "certify/models/bundles/digits/bundle.json"} <= set(names)


def test_it_is_imported_from_another_folder_even_beside_a_folder_called_models(installed: Path, place: Path) -> None:
    elsewhere = place / "elsewhere"
    (elsewhere / "models").mkdir(parents=True)
    (elsewhere / "models" / "__init__.py").write_text("raise ImportError('not ours')\n")
    code = "import certify, certify.models.bundle, certify.service.http.app; print(certify.Certifier, certify.__file__)"
    out = run(installed, "-c", code, cwd=elsewhere)
    assert str(place / "env") in out


def test_nothing_of_torch_is_there_and_nothing_that_is_needed_is_missing(installed: Path, place: Path) -> None:
    code = (
        "import importlib.util as u; print([n for n in ('torch', 'timm', 'diffusers', 'openvino') if u.find_spec(n)])"
    )
    assert run(installed, "-c", code, cwd=place).strip() == "[]"
    run(installed, "-m", "pip", "check", cwd=place)


@pytest.fixture
def url(installed: Path, place: Path) -> Iterator[str]:
    """Of `certify serve` on the fake backend, by the installed command, once it is ready."""
    [port] = free_ports(1)
    command = [installed.parent / "certify", "serve", "--backend=fake", f"--port={port}"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (place / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:  # the test's own time limit is the only clock
            try:
                if httpx.get(f"{address}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        assert process.poll() is None, (place / "log").read_text()
        yield address
    finally:
        process.terminate()
        process.wait()


def test_certify_serve_answers_a_request(url: str) -> None:
    answer = httpx.post(f"{url}/certify", files={"image": pictures.png()}, data={"samples": "960"}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outcome"] in ("certified", "abstained")
    assert answer.json()["bundle"]["name"] == httpx.get(f"{url}/info").json()["bundle"]["name"]


def test_the_command_certifies_in_its_own_process(installed: Path, place: Path) -> None:
    (place / "digit.png").write_bytes(pictures.png())
    command = [installed.parent / "certify", "image", "digit.png", "--backend=fake", "--json", "--samples=960"]
    assert "outcome" in json.loads(run(*command, cwd=place))


@pytest.mark.timeout(1_500)  # some thousand tests
def test_the_tests_that_need_no_torch_pass_on_it(installed: Path, place: Path) -> None:
    shutil.copytree(ROOT / "tests", place / "run" / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place / "run")
    suites = [f"tests/{name}" for name in SUITES]
    command = [installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *suites]
    assert " passed" in run(*command, cwd=place / "run")
