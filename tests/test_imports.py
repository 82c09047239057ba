"""Who may import whom. The rules keep the statistics pure, the gateway free of torch, and serving free of training."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "torchvision", "diffusers", "timm", "sklearn", "openvino", "tritonclient"}
WEB = {"fastapi", "starlette", "uvicorn", "pydantic", "pydantic_settings", "httpx"}
# The standard library's parts without I/O, clock or randomness that core needs; add to it with care.
CORE = {
    "__future__",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "itertools",
    "math",
    "numpy",
    "operator",
    "scipy.special",
    "typing",
}


def modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Every module imported by a file; with top_level, only what an import of the file itself runs."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.name, node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found |= {(f"{node.module}.{alias.name}", node.lineno) for alias in node.names}
    if top_level:
        inner = {
            n.lineno
            for f in ast.walk(tree)
            if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)
            or (isinstance(f, ast.If) and ast.unparse(f.test) == "TYPE_CHECKING")
            for n in ast.walk(f)
            if isinstance(n, ast.Import | ast.ImportFrom)
        }
        found = {(name, line) for name, line in found if line not in inner}
    return {name for name, _ in found}


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offending(path: Path, *never: str, but: tuple[str, ...] = (), top_level: bool = False) -> set[str]:
    return {name for name in imports(path, top_level=top_level) if within(name, *never) and not within(name, *but)}


@pytest.mark.parametrize("path", modules("service/core"), ids=name_of)
def test_core_has_no_io_clock_or_randomness(path):
    foreign = {name for name in imports(path) if not within(name, "service.core", *CORE)}
    assert not foreign


def test_errors_need_nothing():
    assert all(name.split(".")[0] in sys.stdlib_module_names for name in imports(ROOT / "service/errors.py"))


@pytest.mark.parametrize("path", modules("service"), ids=name_of)
def test_the_gateway_never_needs_torch(path):
    allowed = {  # inside functions: a gateway that does not ask for them does not load them
        "service.backends.triton": ("tritonclient",),
        "service.backends.replicas": ("tritonclient",),
        "models.datasets": ("sklearn",),
    }.get(name_of(path), ())
    assert not offending(path, *HEAVY, but=allowed)
    assert not offending(path, *HEAVY, top_level=True)


@pytest.mark.parametrize("path", modules("service"), ids=name_of)
def test_the_gateway_crosses_into_models_in_three_places_only(path):
    crossing = {
        "service.backends.embedded": ("models",),
        "service.cli.main": ("models.bundle",),
        "service.cli.pack": ("models.bundle", "models.pack"),
    }.get(name_of(path), ())
    assert not offending(path, "models", but=crossing)
    assert not offending(path, "models", top_level=True)
    assert not offending(path, "models.train")


@pytest.mark.parametrize("name", ["driver", "admission", "seeds", "backends/base", "backends/fake"])
def test_the_loop_and_the_contract_know_no_web_and_no_concrete_backend(name):
    path = ROOT / f"service/{name}.py"
    assert not offending(path, *WEB)
    assert not offending(path, "service.backends", but=("service.backends.base",))


@pytest.mark.parametrize("path", [*modules("service/routes"), ROOT / "service/http/problems.py"], ids=name_of)
def test_routes_know_no_backend(path):
    assert not offending(path, "service.backends", "models")


@pytest.mark.parametrize("path", [p for p in modules("models") if "train" not in p.parts], ids=name_of)
def test_serving_models_need_neither_the_gateway_nor_training(path):
    assert not offending(path, "service", "models.train")


@pytest.mark.parametrize("path", modules("models/train"), ids=name_of)
def test_training_uses_the_statistics_and_the_data_and_nothing_else_of_the_gateway(path):
    assert not offending(path, "service", but=("service.core", "models.datasets", "service.research.policies"))


def test_only_problems_knows_status_numbers():
    """An exception becomes a status in one place."""
    for path in modules("service"):
        if name_of(path) in {"service.http.problems"}:
            continue
        numbers = {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.keyword) and node.arg == "status_code" and isinstance(node.value, ast.Constant)
        }
        assert not numbers, f"{path}: status numbers belong in problems.py"


def test_the_gateway_imports_with_torch_blocked():
    names = [name_of(path) for path in modules("service") if path.name != "__main__.py"]
    code = f"""
import importlib, sys
for name in {sorted(HEAVY - {"tritonclient"})!r}:
    sys.modules[name] = None
for name in {names!r}:
    importlib.import_module(name)
import models.bundle
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)


def test_no_module_is_longer_than_500_lines():
    sizes = {path: len(path.read_text().splitlines()) for path in modules("service", "models", "tests", "benchmarks")}
    assert max(sizes.values()) <= 500, max(sizes, key=lambda path: sizes[path])
