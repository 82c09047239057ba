"""What every shipped bundle's figures and model card are made of: no number in a card is typed by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cost import size
from benchmarks.machine import machine, sentence
from certify.models.bundle import Manifest, load_manifest, save_manifest
from certify.service.research.curves import INTERVALS, Curve, markdown
from certify.service.research.field import compared, field_of, field_table
from certify.service.research.votes_file import VotesFile

__all__ = ("certificates", "figures", "here", "listed", "publish")


def figures(
    folder: Path, votes: VotesFile, rows: Sequence[Curve], radii: Sequence[float], more: Mapping[str, Any]
) -> dict[str, Any]:
    """For the manifest, JSON values. votes: of the images that judge; more: what else this bundle states."""
    return {
        **size(folder),
        "images": len(votes.idx),
        "samples": votes.samples,
        "alpha": float(votes.alpha),
        "runtime": votes.runtime,
        "clean_accuracy": float((votes.plain == votes.labels).mean()),
        **more,
        "rows": {row.name: _of_curve(row, radii) for row in rows},
    }


def _of_curve(row: Curve, radii: Sequence[float]) -> dict[str, Any]:
    return {
        "images": len(row),
        "accuracy": {f"{r:g}": row.accuracy(r) for r in radii},
        "accuracy_interval": {f"{r:g}": row.accuracy_interval(r) for r in radii},
        "acr": row.acr,
        "acr_interval": row.acr_interval,
        "abstained": row.abstention,
        "wrong": row.wrong,
        "mean_samples": row.mean_samples,
    }


def certificates(rows: Sequence[Curve], radii: Sequence[float], field: str | None = None) -> str:
    """Markdown: the rows with n and intervals; then the field's figures for that data set, and who leads where."""
    parts = [markdown(rows, radii), INTERVALS]
    if field is not None:
        published = field_of(field)
        parts += [field_table(published, radii), "\n".join(compared(rows, published))]
    return "\n\n".join(parts)


def publish(folder: Path, measured: Mapping[str, Any], card: str) -> Manifest:
    """Write figures and card into the bundle. Both are outside the digest: the bundle stays the same."""
    manifest = dataclasses.replace(load_manifest(folder), figures=measured)
    save_manifest(manifest, folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return manifest


def listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def here() -> str:
    """This machine, inside a sentence."""
    return sentence(machine()).rstrip(".")
