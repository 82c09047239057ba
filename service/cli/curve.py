"""`certify curve`: certified accuracy against radius, from tables or votes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ...models.files import check_file
from ..errors import DataError
from ..research.curves import (
    INTERVALS,
    Curve,
    curves_of_votes,
    load,
    markdown,
    radii_of,
)
from ..research.field import FIELD, compared, field_of, field_table
from ..research.figures import draw
from ..research.votes_file import load_votes
from .options import numbers, parse_final

__all__ = ("curve",)


def curve(
    paths: Annotated[
        list[Path], typer.Argument(help="Tables of certify dataset, or files of votes of one run.", metavar="FILE...")
    ],
    out: Annotated[Path | None, typer.Option(help="Draw here: both a .png and an .svg. Needs matplotlib.")] = None,
    radii: Annotated[str | None, typer.Option(help="Where the table is cut [as far as the data go].")] = None,
    threshold: Annotated[str | None, typer.Option(help="Votes only: one, or one per sigma [the file's].")] = None,
    final: Annotated[str | None, typer.Option(help="Votes only: plurality or threshold [the file's].")] = None,
    field: Annotated[
        str | None, typer.Option(help=f"Set the field's published figures beside these: {', '.join(FIELD)}.")
    ] = None,
    title: Annotated[str, typer.Option(help="Of the picture.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for each curve.")] = False,
) -> None:
    """Certified accuracy against radius: a Markdown table, and with --out a picture.

    Each figure stands with n and its 95% interval over images. Tables of one run (shards) are one curve, and its votes
    are one file; what is missing is said. Votes give a curve for each policy and each scale alone; "reference" is as
    published, and not proved at alpha.
    """
    if out is not None:
        check_file(out)
    published = () if field is None else field_of(field)
    curves = _curves(paths, threshold, final)
    if published and any(curve.norm != "l2" for curve in curves):
        raise DataError("field: expected radii in L2, as the field's are, got others")
    for line in dict.fromkeys(line for curve in curves for line in curve.missing):  # votes' curves lack the same
        typer.echo(f"missing: {line}", err=True)
    least = max((radius for row in published for radius in row.accuracy), default=0.0)
    cuts = radii_of(curves, least=least) if radii is None else numbers("radii", radii)
    if as_json:
        for one in curves:
            typer.echo(json.dumps(_facts(one, cuts)))
    else:
        typer.echo(f"{markdown(curves, cuts)}\n\n{INTERVALS}")
        if published:
            typer.echo("\n" + "\n".join([field_table(published, cuts), "", *compared(curves, published)]))
    if out is not None:
        for path in draw(curves, out, title=title, points={row.name: row.accuracy for row in published}):
            typer.echo(f"wrote {path}", err=True)


def _curves(paths: list[Path], threshold: str | None, final: str | None) -> list[Curve]:
    if threshold is None and final is None:
        return load(paths)
    if any(path.suffix != ".npz" for path in paths):
        raise DataError("threshold, final: expected files of votes, since a table's are settled")
    votes = load_votes(*paths)
    return curves_of_votes(votes, thresholds=_thresholds(threshold, len(votes.sigmas)), final=parse_final(final))


def _facts(curve: Curve, radii: Sequence[float]) -> dict[str, Any]:
    """Intervals are of 95%: exact of shares, a bootstrap's of the ACR."""
    return {
        "name": curve.name,
        "images": len(curve),
        "images_expected": curve.expected,
        "norm": curve.norm,
        "certified_accuracy": {f"{r:g}": curve.accuracy(r) for r in radii},
        "certified_accuracy_interval": {f"{r:g}": curve.accuracy_interval(r) for r in radii},
        "acr": curve.acr,
        "acr_interval": curve.acr_interval,
        "abstained": curve.abstention,
        "abstained_interval": curve.interval_of(curve.abstention),
        "wrong": curve.wrong,
        "wrong_interval": curve.interval_of(curve.wrong),
        "mean_samples": curve.mean_samples,
    }


def _thresholds(text: str | None, levels: int) -> list[float] | None:
    if text is None:
        return None
    values = numbers("threshold", text)
    if len(values) not in (1, levels) or not all(0.5 <= value < 1 for value in values):
        raise DataError(f"threshold: expected one value or {levels}, each in [0.5, 1), got {text!r}")
    return values * levels if len(values) == 1 else values
