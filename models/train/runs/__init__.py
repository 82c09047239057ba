"""The named runs, a folder for each data set: `certify train NAME`, where NAME is a CONFIG's name.

A CONFIG's type says how it is trained: TrainConfig by models.train.joint, FileConfig by models.train.from_file,
PhotoConfig by models.train.photo, FinetuneConfig and FileFinetuneConfig by models.train.finetune.
"""

from __future__ import annotations

import importlib
import pkgutil

from ...errors import DataError
from ..config import FileConfig, FinetuneConfig, PhotoConfig, TrainConfig

__all__ = ("RunConfig", "find_run", "named_runs")

RunConfig = TrainConfig | FileConfig | PhotoConfig | FinetuneConfig


def named_runs() -> dict[str, RunConfig]:
    """Every run by its name."""
    modules = [module.name for module in pkgutil.walk_packages(__path__, f"{__name__}.") if not module.ispkg]
    configs: list[RunConfig] = [importlib.import_module(name).CONFIG for name in modules]
    return {config.name: config for config in configs}


def find_run(name: str) -> RunConfig:
    """The run of this name. Raises DataError naming the ones that there are."""
    runs = named_runs()
    if name not in runs:
        raise DataError(f"run: expected one of {', '.join(sorted(runs))}, got {name!r}")
    return runs[name]
