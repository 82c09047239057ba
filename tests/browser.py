"""A real Chromium for tests: Debian's, driven by playwright-core and looked at by axe-core, both from npm."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT

__all__ = ("PROGRAMS", "needs_chromium", "run_in_chromium")

PROGRAMS = ROOT / "tests" / "http" / "browser"
_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_LOST = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT")  # npm's words for no registry


def needs_chromium() -> list[pytest.MarkDecorator]:
    """For a module's pytestmark."""
    return [
        pytest.mark.slow,
        pytest.mark.skipif(_CHROMIUM is None, reason="needs a Chromium (Debian's package chromium)"),
        pytest.mark.skipif(shutil.which("npm") is None, reason="needs node and npm"),
    ]


def run_in_chromium(program: Path, settings: dict[str, Any], place: Path) -> Any:
    """What a program (.mjs) prints, as JSON, asked with `settings` and where Chromium is; paths in these are of the
    sources. place: an empty folder.
    """
    shutil.copytree(PROGRAMS, place, dirs_exist_ok=True)
    shutil.copy(program, place)
    npm = ["npm", "ci", "--no-fund", "--no-audit"]
    install = subprocess.run(npm, cwd=place, capture_output=True, text=True, check=False, timeout=300)
    if install.returncode and any(why in install.stderr for why in _LOST):
        pytest.skip("npm reaches no registry")
    assert install.returncode == 0, install.stderr[-2000:]
    command = ["node", str(place / program.name), json.dumps({"chromium": _CHROMIUM, **settings})]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return json.loads(done.stdout)
