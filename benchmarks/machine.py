"""The machine and versions that a figure belongs to."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ("cpu_seconds", "machine", "rss", "sentence")


def machine() -> dict[str, str]:
    """Processor, usable cores, load and the versions that matter, for the head of a table."""
    packages = ("torch", "openvino", "diffusers", "timm", "numpy", "scipy", "fastapi", "uvicorn", "httptools", "uvloop")
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {_version(name)}" for name in packages),
    }


def sentence(described: dict[str, str]) -> str:
    """The machine in words, to stand above a table."""
    return (
        f"{described['processor']}, {described['cores']} cores, load {described['load before']} before; Python "
        f"{described['python']}, {described['versions']}."
    )


def rss(pid: int) -> int:
    """Bytes of a process's resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Processor time of a process's threads so far."""
    # In nanoseconds; /proc/PID/stat counts in hundredths of a second, and by samples of who runs.
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # openvino is an extra
        return "missing"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
