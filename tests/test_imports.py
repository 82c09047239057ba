"""Who may import whom, read from the code, and seen from outside in processes of their own."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
import types
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import certify
from certify.service import core
from tests.test_wheel import SUITES

ROOT = Path(__file__).parent.parent
# From the ground up: a room may import the rooms below it, and none above. The bare service holds only its version.
FLOORS = (
    "certify.models",
    "certify.service.core",
    "certify.service.errors",
    "certify.service.settings",
    "certify.service.tracing",
    "certify.service.backends",
    "certify.service.answering",
    "certify.service.client",
    "certify.service.research",
    "certify.service.http",
    "certify.service.cli",
)
HEAVY = {"torch", "torchvision", "diffusers", "timm", "transformers", "sklearn", "openvino", "tritonclient"}
WEB = {"fastapi", "starlette", "uvicorn", "pydantic", "pydantic_settings", "httpx"}
# The standard library's parts without I/O, clock or randomness that core needs; add to it with care.
CORE = {
    "__future__",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "importlib",
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
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] in ("certify", "benchmarks", "tests") else ("certify", *parts)).removesuffix(
        ".__init__"
    )


SOURCES = {name_of(path): path for path in modules("service", "models") if "mdds" not in path.parts}


def imports(path: Path, *, top_level: bool = False, types: bool = True) -> set[str]:
    """Every module or name imported by a file; with top_level, only what an import of the file itself runs.

    Without types, nothing that stands under TYPE_CHECKING.
    """
    tree = ast.parse(path.read_text())
    inner = {id(node) for node in _inside(tree, functions=top_level)} if top_level or not types else set()
    found = set()
    for node in ast.walk(tree):
        if id(node) in inner:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{_module(path, node)}.{alias.name}" for alias in node.names}
    return found


def _inside(tree: ast.AST, *, functions: bool) -> list[ast.AST]:
    """What stands under TYPE_CHECKING, and in functions if so wished."""
    holders = [
        node
        for node in ast.walk(tree)
        if (functions and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return [node for holder in holders for node in ast.walk(holder)]


def _module(path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = name_of(path).split(".") if path.name == "__init__.py" else name_of(path).split(".")[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offending(path: Path, *never: str, but: tuple[str, ...] = (), top_level: bool = False) -> set[str]:
    return {name for name in imports(path, top_level=top_level) if within(name, *never) and not within(name, *but)}


def room_of(name: str) -> int | None:
    """The floor of a module or of a name in it."""
    return next((floor for floor, room in enumerate(FLOORS) if within(name, room)), None)


def every(path_of: dict[str, Path] = SOURCES) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", path_of.values(), ids=path_of)


@every()
def test_nothing_imports_upward(path):
    mine = room_of(name_of(path))
    assert not {name for name in imports(path) if mine is not None and (room_of(name) or 0) > mine}


@every()
def test_research_and_http_never_import_each_other(path):
    rooms = {"certify.service.research", "certify.service.http"}
    for room in rooms:
        if within(name_of(path), room):
            assert not offending(path, *(rooms - {room}))


def test_no_import_circle_anywhere():
    graph = {}
    for name, path in SOURCES.items():
        asked = {module if module in SOURCES else module.rpartition(".")[0] for module in imports(path)}
        graph[name] = (asked & SOURCES.keys()) - {name}
    TopologicalSorter(graph).prepare()  # raises CycleError, naming the circle


def test_at_most_twelve_entries_stand_directly_in_service():
    assert len([entry for entry in (ROOT / "service").iterdir() if entry.name != "__pycache__"]) <= 12


@pytest.mark.parametrize("path", modules("service/core"), ids=name_of)
def test_core_has_no_io_clock_or_randomness(path):
    """Nor does it load anything of ours; types of a bundle, its last rule and its noises, it may name."""
    lazy = ("importlib.import_module",) if path.name == "__init__.py" else ()  # for its own modules alone
    foreign = {name for name in imports(path) if not within(name, "certify.service.core", *CORE, *lazy)}
    assert foreign <= {"certify.models.bundle.Final", "certify.models.noises.NoiseKind"}
    assert not foreign & imports(path, types=False)


@pytest.mark.parametrize("path", [ROOT / "service/errors.py", ROOT / "models/errors.py"], ids=name_of)
def test_errors_need_nothing(path):
    foreign = {name for name in imports(path) if not within(name, "certify.models.errors")}
    assert all(name.split(".")[0] in sys.stdlib_module_names for name in foreign)


@pytest.mark.parametrize("path", modules("service"), ids=name_of)
def test_the_gateway_never_needs_torch(path):
    allowed = ("tritonclient",) if within(name_of(path), "certify.service.backends") else ()
    assert not offending(path, *HEAVY, but=allowed)
    assert not offending(path, *HEAVY, top_level=True)


LIGHT = tuple(
    f"certify.models.{name}"
    for name in (
        "errors",
        "data",
        "datasets",
        "bundle",
        "files",
        "noise",
        "noises",
        "ranges",
        "remote.limits",
        "retries",
    )  # fmt: skip
)  # these need no torch


@pytest.mark.parametrize("path", modules("service"), ids=name_of)
def test_service_loads_of_models_only_what_needs_no_torch(path):
    """The rest is imported inside functions, where the embedded backend and the commands on bundles ask for it."""
    assert not offending(path, "certify.models", but=LIGHT, top_level=True)
    crossing = within(name_of(path), "certify.service.backends.embedded", "certify.service.cli")
    assert crossing or not offending(path, "certify.models", but=LIGHT)


@pytest.mark.parametrize("name", ["answering/driver", "answering/seeds", "backends/base", "backends/fake"])
def test_the_loop_and_the_contract_know_no_web_and_no_concrete_backend(name):
    path = ROOT / f"service/{name}.py"
    assert not offending(path, *WEB)
    assert not offending(path, "certify.service.backends", but=("certify.service.backends.base",))


@pytest.mark.parametrize("path", [*modules("service/http/routes"), ROOT / "service/http/problems.py"], ids=name_of)
def test_routes_know_no_backend(path):
    assert not offending(path, "certify.service.backends", "certify.models")


@pytest.mark.parametrize("path", [p for p in modules("models") if "train" not in p.parts], ids=name_of)
def test_serving_needs_no_training(path):
    assert not offending(path, "certify.models.train")


@pytest.mark.parametrize("path", modules("models"), ids=name_of)
def test_models_never_import_service(path):
    assert not offending(path, "certify.service", "service", "benchmarks", "tests")


def test_only_problems_knows_status_numbers():
    """An exception becomes a status in one place."""
    for path in modules("service"):
        if name_of(path) == "certify.service.http.problems":
            continue
        numbers = {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.keyword) and node.arg == "status_code" and isinstance(node.value, ast.Constant)
        }
        assert not numbers, f"{path}: status numbers belong in problems.py"


BLOCK = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {sorted(HEAVY | {"safetensors"})!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
"""


def run(code: str) -> str:
    """What `code` prints in a process of its own, without torch, warnings being errors."""
    command = [sys.executable, "-W", "error", "-c", BLOCK + code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_of_service_imports_with_torch_blocked():
    names = [name_of(path) for path in modules("service")]
    run(f"import importlib\nfor name in {names!r}: importlib.import_module(name)\nimport certify.models.bundle")


def test_the_gateway_certifies_with_torch_blocked(tmp_path):
    from tests import pictures

    path = tmp_path / "a.png"
    path.write_bytes(pictures.png())
    out = run(f"""
import certify.service.http.app, certify.service.http.server, certify.service.backends.embedded
from certify.service.cli.main import app
app(["image", {str(path)!r}, "--backend=fake", "--json", "--samples=500"], standalone_mode=False)
""")
    assert '"outcome"' in out


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("certify", {"numpy", "httpx", "certify.service.core", "certify.models"}),
        ("certify.service.cli.main", {"uvicorn", "fastapi", "certify.service.backends", "torch", "scipy", "httpx"}),
        ("certify.models.runtime", {"torch", "diffusers", "timm", "safetensors", "openvino", "scipy"}),
        ("certify.service.client", {"numpy", "scipy", "PIL", "fastapi", "certify.service.backends"}),
        ("certify.service.answering.driver", {"fastapi", "starlette", "PIL", "certify.service.backends.fake"}),
        ("certify.service.answering.seeds", {"fastapi", "starlette", "PIL", "certify.service.backends.fake"}),
    ],
)
def test_a_module_loads_no_more_than_it_needs(module, never):
    run(f"import {module}\nloaded = {never!r} & set(sys.modules)\nassert not loaded, loaded")


def offering() -> list[str]:
    names = [each.name for each in pkgutil.walk_packages(certify.__path__, "certify.")]
    # core's own tests say what it offers; training and what runs in a server are reached by their commands.
    apart = ("certify.__main__", "certify.service.core", "certify.models")
    return [name for name in names if not within(name, *apart)]


@pytest.mark.parametrize("name", offering())
def test_what_a_module_says_it_offers_is_there_and_nothing_public_is_left_out(name):
    module = importlib.import_module(name)
    offered = set(getattr(module, "__all__", ()))
    assert all(hasattr(module, each) for each in offered)
    own = {
        each
        for each, value in vars(module).items()
        if not each.startswith("_")
        and isinstance(value, type | types.FunctionType)
        and value.__module__ == name
        and not each.isupper()
    }
    # A module without __all__ offers nothing: routes' handlers and commands are reached through router and app.
    reached_otherwise = {"certify", "livez", "readyz", "metrics", "info", "main", "serve", "image", "bundles", "pack"}
    assert own - offered <= reached_otherwise


def test_the_face_offers_what_it_lists():
    assert all(getattr(certify, name) is not None for name in certify.__all__)
    assert set(certify._HOMES) | {"__version__"} == set(certify.__all__)
    assert all(getattr(core, name) is not None for name in core.__all__)
    assert set(core._HOMES) == set(core.__all__)


@pytest.mark.parametrize(("old", "new"), [("models.export", "certify bundles export"), ("service", "certify")])
def test_the_old_calls_say_what_replaced_them(old, new):
    command = [sys.executable, "-m", old]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode != 0 and f"`{new}`" in done.stderr


def test_no_module_is_longer_than_350_lines():
    sizes = {path: len(path.read_text().splitlines()) for path in modules("service", "models", "tests", "benchmarks")}
    assert max(sizes.values()) <= 350, max(sizes, key=lambda path: sizes[path])


WHEEL = [path for suite in SUITES for path in modules(f"tests/{suite}")]
WHEEL += [path for path in (ROOT / "tests").glob("*.py") if not path.name.startswith("test_")]


@every({name_of(path): path for path in WHEEL})
def test_what_is_tested_on_the_wheel_takes_nothing_that_only_a_checkout_has(path):
    assert not offending(path, "benchmarks", "examples", "install")
