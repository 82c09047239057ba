"""Images built by buildah and run by runc, as root and without a container engine.

The Dockerfile is built as it is, but for its base: no registry is asked, so Debian of the same name, with Debian's own
Python, takes the place of python:X-slim.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "gateway.Dockerfile"
TOOLS = ("buildah", "runc", "debootstrap")
BASE = "localhost/python"
# OpenShift's kind of user: no name, the root group, and another one in each namespace.
USER = {"uid": 1000650000, "gid": 0}
# Of Debian; python:X-slim has none of it either: manuals, translations, package lists.
UNWANTED = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "var/cache", "var/lib/apt/lists")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def why_not() -> str:
    """What images cannot be built for here; empty where they can."""
    if missing := [name for name in TOOLS if shutil.which(name) is None]:
        return f"{', '.join(missing)} not installed (apt-get install {' '.join(TOOLS)})"
    return "" if os.geteuid() == 0 else "images are built and run as root"


def run(*command: str | Path, **options: Any) -> str:
    """What the command prints, without the last line's end."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return str(done.stdout).rstrip("\n")


@dataclass(frozen=True)
class Store:
    """Images and containers, all in one folder."""

    folder: Path

    def buildah(self, *arguments: str | Path) -> str:
        return run("buildah", "--root", self.folder / "images", "--runroot", self.folder / "run", *arguments)

    def make_base(self) -> None:
        """Debian and its Python, under the name that stands for the Dockerfile's base."""
        (release,) = set(re.findall(r"^FROM python:[\d.]+-slim-(\w+)@", DOCKERFILE.read_text(), re.MULTILINE))
        container = self.buildah("from", "scratch")
        root = Path(self.buildah("mount", container))
        wanted = "--include=ca-certificates,python3,python3-venv"
        run("debootstrap", "--variant=minbase", wanted, release, root)
        for name in UNWANTED:
            shutil.rmtree(root / name)
            (root / name).mkdir()
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.buildah("config", "--env", f"PATH={path}", container)
        self.buildah("commit", "--quiet", "--rm", container, BASE)

    def build(self, tag: str, extras: str | None = None) -> Image:
        """The gateway's Dockerfile; pip finds its index as it does here."""
        (base,) = set(re.findall(r"^FROM (python:\S+)", DOCKERFILE.read_text(), re.MULTILINE))
        pip = self.folder / "pip.conf"
        pip.write_text(pip_configuration())
        self.buildah(
            "build", "--quiet", "--isolation", "chroot", "--network", "host",
            "--format", "docker",  # OCI's has no HEALTHCHECK
            "--build-context", f"{base}=docker-image://{BASE}",
            "--volume", f"{pip}:/etc/pip.conf:ro", "--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro",
            *(["--build-arg", f"EXTRAS={extras}"] if extras else []),
            "--file", DOCKERFILE, "--tag", f"localhost/{tag}", ROOT,
        )  # fmt: skip
        return Image(self, f"localhost/{tag}")

    def remove(self) -> None:
        self.buildah("umount", "--all")
        self.buildah("rm", "--all")
        shutil.rmtree(self.folder)


def pip_configuration() -> str:
    listed = run(sys.executable, "-m", "pip", "config", "list")
    kept = re.findall(r"^\S+\.(index-url|proxy|timeout|trusted-host)='(.*)'$", listed, re.MULTILINE)
    return "\n".join(
        ["[global]", f"cert = {CERTIFICATES}", *(f"{name} = {value}" for name, value in dict(kept).items())]
    )


@dataclass(frozen=True)
class Image:
    store: Store
    name: str

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Entrypoint, Env, Healthcheck, ..., as Docker has them."""
        found: dict[str, Any] = json.loads(self.store.buildah("inspect", "--type", "image", self.name))
        return dict(found["Docker"]["config"])

    @cached_property
    def root(self) -> Path:
        """Its files, mounted; read-only by agreement."""
        return Path(self.store.buildah("mount", self.store.buildah("from", "--pull-never", self.name)))

    def megabytes(self) -> float:
        """All its files, unpacked, each once; a million bytes each."""
        found = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                status = os.lstat(Path(folder) / name)
                found[status.st_ino] = status.st_size
        return sum(found.values()) / 1e6


def specification(
    root: Path, arguments: Sequence[str], variables: Sequence[str], network: str | None, tmp: str
) -> dict[str, Any]:
    """The OCI runtime's: a restricted pod's container. `network`: a namespace to join, else one with loopback alone."""
    quiet = ["nosuid", "noexec", "nodev"]
    memory = {"type": "tmpfs", "source": "tmpfs"}
    joined = {"path": network} if network else {}
    kinds = ("pid", "ipc", "uts", "mount")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": USER,
            "args": list(arguments),
            "env": list(variables),
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {name: [] for name in ("bounding", "effective", "permitted", "inheritable", "ambient")},
        },
        "root": {"path": str(root), "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
            {"destination": "/dev", **memory, "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": "/dev/shm", **memory, "options": [*quiet, "size=64m"]},
            {"destination": "/tmp", **memory, "options": ["nosuid", "nodev", "mode=1777", f"size={tmp}"]},
        ],
        "linux": {
            "namespaces": [{"type": "network", **joined}, *({"type": kind} for kind in kinds)],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }  # fmt: skip


@dataclass(frozen=True)
class Container:
    name: str
    runtime: Path
    popen: subprocess.Popen[str]
    log: Path

    def runc(self, *arguments: str) -> list[str]:
        return ["runc", "--root", str(self.runtime), *arguments]

    def network(self) -> str:
        state = json.loads(run(*self.runc("state", self.name)))
        return f"/proc/{state['pid']}/ns/net"

    def run(self, *command: str, **options: Any) -> str:
        """In the container, with its user, variables and restrictions."""
        return run(*self.runc("exec", self.name, *command), **options)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """The same, without waiting for its end."""
        line = self.runc("exec", self.name, *command)
        return subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def stop(self) -> int:
        """SIGTERM, and the process's exit code."""
        run(*self.runc("kill", self.name, "TERM"))
        return self.popen.wait()


@contextlib.contextmanager
def container(
    image: Image,
    arguments: Sequence[str] | None = None,
    variables: dict[str, str] | None = None,
    *,
    command: Sequence[str] | None = None,
    network: str | None = None,
    tmp: str = "64m",
) -> Iterator[Container]:
    """As Kubernetes starts it: `command` instead of the image's ENTRYPOINT, `arguments` instead of its CMD."""
    name = f"certify-{uuid.uuid4().hex[:12]}"
    folder = image.store.folder / name
    folder.mkdir()
    settings = image.settings
    line = [*(command or settings["Entrypoint"]), *(settings["Cmd"] if arguments is None else arguments)]
    pairs = [*settings["Env"], *(f"{key}={value}" for key, value in (variables or {}).items())]
    (folder / "config.json").write_text(json.dumps(specification(image.root, line, pairs, network, tmp)))
    log = folder / "log"
    with log.open("w") as output:
        started = ["runc", "--root", str(folder / "state"), "run", "--bundle", str(folder), name]
        popen = subprocess.Popen(started, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True)
    running = Container(name, folder / "state", popen, log)
    try:
        yield running
    finally:
        subprocess.run(running.runc("kill", name, "KILL"), check=False, capture_output=True)
        popen.wait()
        subprocess.run(running.runc("delete", "--force", name), check=False, capture_output=True)
