"""`certify train`: a named training run, and the bundles that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import BackendUnavailable

__all__ = ("train",)


def train(
    run: Annotated[
        str, typer.Argument(help="The run: digits, digits_brier, cifar10_cpu, ... (another name lists them).")
    ],
    data: Annotated[Path | None, typer.Option(help="Folder with the data set, where the run needs one.")] = None,
    out: Annotated[Path | None, typer.Option(help="The bundle's folder [the run's].")] = None,
    work: Annotated[Path | None, typer.Option(help="For checkpoints, to go on from [runs/RUN].")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many images: to try it.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another than the run's.")] = None,
    bundle: Annotated[str | None, typer.Option(help="Fine-tune this one [the run's].")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch on a CPU [the run's].")] = None,
) -> None:
    """Train a named run and write its bundles. A run that was cut off goes on from its last checkpoint."""
    try:
        from ...models.train.command import train_run
    except ImportError as error:
        raise BackendUnavailable(
            f"training needs torch and what comes with it (pip install 'certify[train]'): {error}"
        ) from error
    train_run(run, data=data, out=out, work=work, limit=limit, seed=seed, bundle=bundle, threads=threads)
