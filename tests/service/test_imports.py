"""What the gateway may import, seen from outside: in processes of their own, with torch blocked."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import service

ROOT = Path(__file__).parents[2]
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "diffusers", "timm", "safetensors", "tritonclient"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", BLOCK + code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_gateway_certifies_with_torch_blocked(tmp_path: Path) -> None:
    from tests import pictures

    path = tmp_path / "a.png"
    path.write_bytes(pictures.png())
    out = run(f"""
import service.app, service.server, service.backends.embedded
from service.cli import app
app(["image", {str(path)!r}, "--backend=fake", "--json", "--samples=500"], standalone_mode=False)
""")
    assert '"outcome"' in out


def test_the_command_line_starts_without_the_web_framework_or_a_backend() -> None:
    run("""
import service.cli
loaded = {"uvicorn", "models", "service.backends.embedded", "torch"} & set(sys.modules)
assert not loaded, loaded
""")


def test_the_driver_knows_neither_the_web_nor_a_backend() -> None:
    run("""
import service.driver, service.seeds
loaded = {"fastapi", "starlette", "PIL", "service.backends.fake", "service.backends.embedded"} & set(sys.modules)
assert not loaded, loaded
""")


def modules() -> list[str]:
    names = [each.name for each in pkgutil.walk_packages(service.__path__, "service.")]
    # core is another package's worth of tests; __main__ runs the command.
    return [name for name in names if not name.endswith("__main__") and not name.startswith("service.core")]


@pytest.mark.parametrize("name", modules())
def test_what_a_module_says_it_offers_is_there_and_nothing_public_is_left_out(name: str) -> None:
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
