"""Install certify and what the named extras need, every downloaded file checked against constraints.txt.

    python install.py [--editable] [EXTRA ...]      # into the environment of this python; no extra: no torch

pip takes hashes only when every package is named with its version, and never beside a folder, which has no hash.
Therefore two steps: the lines of constraints.txt that the extras need, then the project itself.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def direct(extras: Iterable[str]) -> set[str]:
    """Names of the packages that the base, the build and these extras ask for; extras of extras are followed."""
    project = PYPROJECT["project"]
    lines = [*PYPROJECT["build-system"]["requires"], *project["dependencies"]]
    waiting, known = list(extras), project["optional-dependencies"]
    while waiting:
        extra = waiting.pop()
        if extra not in known:
            raise SystemExit(f"EXTRA: expected one of {', '.join(known)}, got {extra}")
        own = [re.fullmatch(rf"{project['name']}\[(.+)\]", line) for line in known[extra]]
        waiting += [name for match in own if match for name in match[1].split(",")]
        lines += [line for line, match in zip(known[extra], own, strict=True) if not match]
    return {canonical(re.split(r"[^\w.-]", line)[0]) for line in lines}


def canonical(name: str) -> str:
    """As in constraints.txt (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def blocks() -> dict[str, str]:
    """Name -> its lines in constraints.txt: version, hashes, and the packages that it is there for (`# via`).

    Where the version depends on Python's there are several, each with its marker.
    """
    text = (ROOT / "constraints.txt").read_text()
    found: dict[str, str] = {}
    for block in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]:
        name = block.split("==")[0]
        found[name] = found.get(name, "") + block
    return found


def needed(names: set[str]) -> list[str]:
    """The blocks of these packages and of all that they need, by `# via`. A missing one ends the program."""
    pinned = blocks()
    if missing := names - pinned.keys():
        raise SystemExit(f"constraints.txt: expected {', '.join(sorted(missing))}; `make lock` adds what is missing")
    via = {name: set(re.findall(r"^    #(?: via)? +([\w-]+)$", block, re.MULTILINE)) for name, block in pinned.items()}
    chosen = set(names)
    while more := {name for name in pinned.keys() - chosen if via[name] & chosen}:
        chosen |= more
    return [pinned[name] for name in sorted(chosen)]


def slim(packages: Path) -> None:
    """Remove what OpenVINO loads for GPUs and NPUs alone (60 of its 180 MB), and the tests of NumPy and SciPy (49)."""
    for pattern in ("libopenvino_intel_gpu_plugin.*", "libopenvino_intel_npu_*", "cache.json"):
        for path in (packages / "openvino" / "libs").glob(pattern):
            path.unlink()
    for name in ("numpy", "scipy"):
        for path in sorted((packages / name).rglob("tests")):
            shutil.rmtree(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", metavar="EXTRA")
    parser.add_argument("--editable", action="store_true", help="changes of the sources take effect at once")
    parser.add_argument("--dependencies-only", action="store_true", help="leave the project itself out")
    parser.add_argument(
        "--small", action="store_true", help="no bytecode before it is needed, no plugin of a GPU, no tests"
    )
    parser.add_argument("--report", metavar="FILE", help="install nothing; write what would be, as `pip --report` does")
    arguments = parser.parse_args()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    pip += ["--no-compile"] if arguments.small else []
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder) / "requirements.txt"
        chosen.write_text("".join(needed(direct(arguments.extras))))
        trial = ["--dry-run", "--report", arguments.report] if arguments.report else []
        subprocess.run([*pip, *trial, "--require-hashes", "--requirement", str(chosen)], check=True)
    if arguments.small and not arguments.report:
        slim(Path(sysconfig.get_path("platlib")))
    if not (arguments.dependencies_only or arguments.report):
        # Nothing is fetched here: setuptools, which builds, came with the dependencies.
        own = ["--editable", str(ROOT)] if arguments.editable else [str(ROOT)]
        subprocess.run([*pip, "--no-build-isolation", *own], check=True)


if __name__ == "__main__":
    main()
