"""The machine and versions that a figure belongs to."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

__all__ = ("machine",)


def machine() -> dict[str, str]:
    """Processor, usable cores, load and the versions that matter, for the head of a table."""
    packages = ("torch", "diffusers", "timm", "numpy", "scipy", "fastapi", "uvicorn")
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
