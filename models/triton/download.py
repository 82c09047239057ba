"""The programs of a Triton Inference Server for this machine, fetched once.

NVIDIA publishes the server inside a wheel, `nvidia-pytriton`. Its own Python package is not wanted (it pins old
versions of ours), so the wheel is downloaded without dependencies, checked against its SHA-256 and unpacked beside the
environment: the `tritonserver` program, its Python backend, and one "stub" that runs `model.py` for each version of
Python.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from ..errors import CertifyError

__all__ = ("CACHE", "TritonUnavailable", "check_platform", "fetch", "libpython")

WHEEL = "nvidia-pytriton==0.7.0"  # the last with tritonserver inside: 2.51, with known holes (server.CLOSED)
WHEEL_SHA256 = "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df"
CACHE = Path(__file__).resolve().parents[2] / ".triton"  # in the checkout, ignored by git


class TritonUnavailable(CertifyError):
    """The server cannot run here; the message says why and what would be needed."""


def fetch(cache: Path = CACHE) -> Path:
    """The server's folder, downloaded (57 MB) and unpacked (150 MB) on the first call. Raises TritonUnavailable."""
    check_platform()
    home = cache / WHEEL.replace("==", "-")
    if not home.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Unpacked beside its place and moved there whole: a command that is stopped leaves nothing half done.
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            unpacked = Path(folder) / "home"
            _unpack(_download(Path(folder)), unpacked)
            os.rename(unpacked, home)
    return home


def check_platform() -> None:
    """Raise TritonUnavailable, with the reason, where the wheel's programs cannot run."""
    if (system := (platform.system(), platform.machine())) != ("Linux", "x86_64"):
        raise TritonUnavailable(f"the wheel has programs for Linux on x86_64 only; this is {' on '.join(system)}")
    if not (3, 8) <= sys.version_info[:2] <= (3, 13):
        raise TritonUnavailable(f"the wheel has stubs for Python 3.8 to 3.13; this is {platform.python_version()}")
    if libpython() is None:
        raise TritonUnavailable(f"the stub needs a shared {_libpython_name()}, which this Python does not have")


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    sys.stderr.write(f"downloading {WHEEL}, 57 MB, once\n")
    done = subprocess.run([*command, "--dest", str(folder), WHEEL], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise TritonUnavailable(f"pip could not download {WHEEL}: {done.stderr.strip()[-500:]}")
    (wheel,) = wheels
    if (digest := hashlib.sha256(wheel.read_bytes()).hexdigest()) != WHEEL_SHA256:
        raise TritonUnavailable(f"{WHEEL}: expected SHA-256 {WHEEL_SHA256}, got {digest}")
    return wheel


def _unpack(wheel: Path, home: Path) -> None:
    """bin/, lib/ and backends/python/, with this Python's stub among the backend's files."""
    server = "pytriton/tritonserver"
    stub = f"{server}/python_backend_stubs/{sys.version_info[0]}.{sys.version_info[1]}/"
    places = {f"{server}/bin/": "bin", f"{server}/backends/python/": "backends/python", stub: "backends/python"}
    places["nvidia_pytriton.libs/"] = "lib"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            for prefix, place in places.items():
                if name.startswith(prefix) and not name.endswith("/"):
                    target = home / place / name.removeprefix(prefix)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(name) as source, target.open("wb") as copy:
                        shutil.copyfileobj(source, copy)
                    target.chmod(0o755)


def _libpython_name() -> str:
    return f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"


def libpython() -> Path | None:
    """This Python's shared library, which the stub needs; None if it has none."""
    places = [sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib64"]
    candidates = (Path(place) / _libpython_name() for place in places if place)
    return next((path for path in candidates if path.exists()), None)
