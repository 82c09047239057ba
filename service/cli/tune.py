"""`certify tune`: thresholds chosen on a validation split's votes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ...models.files import check_file
from ..errors import DataError
from ..research.curves import INTERVALS, Curve, markdown
from ..research.figures import draw_choice
from ..research.missing import missing_votes
from ..research.threshold_choice import Choice, best_curve, check_split
from ..research.threshold_choice import tune as choose
from ..research.votes_file import load_votes
from .options import numbers, parse_final
from .progress import Steps

__all__ = ("tune",)


def tune(
    votes: Annotated[
        list[Path],
        typer.Argument(
            help="Votes of a validation split, from `certify dataset --votes`; several: one run's.", metavar="FILE..."
        ),
    ],
    target: Annotated[str, typer.Option(help="acr, or the radius whose certified accuracy is to be largest.")] = "acr",
    shared: Annotated[bool, typer.Option("--shared", help="One threshold for all sigmas, not one for each.")] = False,
    final: Annotated[str | None, typer.Option(help="plurality or threshold [the file's].")] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Certified accuracy at 0 to keep [the finest sigma's alone, less 0.02].")
    ] = None,
    judge: Annotated[
        list[Path] | None, typer.Option(help="Votes of other images, by which the choice is judged; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Draw the trade-off here: .png and .svg. Needs matplotlib.")] = None,
) -> None:
    """Choose thresholds on a validation split's votes. Refuses the split that they will be judged by."""
    if out is not None:
        check_file(out)
    file = load_votes(*votes)
    other = load_votes(*judge) if judge else None
    check_split(file, other)
    for line in (line for each in (file, other) if each is not None for line in missing_votes(each)):
        typer.echo(f"missing: {line}", err=True)
    rule = parse_final(final) or file.final
    radius = None if target == "acr" else _radius(target)
    with Steps() as steps:
        choice = choose(file, target=radius, shared=shared, final=rule, min_accuracy=min_accuracy, progress=steps.count)
    _show(choice, radius)
    chosen = choice.candidates[choice.chosen]
    typer.echo(f"\nchosen: --threshold {','.join(f'{t:g}' for t in chosen)} --final {rule}")
    if other is not None:
        typer.echo(f"\njudged by {', '.join(map(str, judge or ()))}:\n")
        typer.echo(markdown([best_curve(other, chosen, rule)]))
    typer.echo(f"\n{INTERVALS}")
    if out is not None:
        _draw(choice, radius, out)


def _radius(target: str) -> float:
    """Raises DataError."""
    radius, *more = numbers("target", target)
    if more:
        raise DataError(f"target: expected acr or one radius, got {target!r}")
    return radius


def _goal(radius: float | None) -> str:
    return "ACR" if radius is None else f"certified accuracy at {radius:g}"


def _value(curve: Curve, radius: float | None) -> float:
    """What is to be largest: the ACR, or the certified accuracy at `radius`."""
    return curve.acr if radius is None else curve.accuracy(radius)


def _show(choice: Choice, radius: float | None) -> None:
    typer.echo(f"every candidate, planned from each pilot, by {_goal(radius)}:\n")
    typer.echo(markdown(sorted(choice.curves, key=lambda curve: _value(curve, radius), reverse=True)))
    if not choice.kept:
        typer.echo(f"\nno candidate has a certified accuracy at 0 of {choice.floor:.3f}: the most accurate is chosen")
    elif choice.unconstrained != choice.chosen:
        typer.echo(f"\nwithout a floor under the certified accuracy at 0 ({choice.floor:.3f}) it would be:\n")
        typer.echo(markdown([choice.curves[choice.unconstrained]]))
    typer.echo("\nthe choice, on the images that it was made on:\n")
    typer.echo(markdown([choice.curves[choice.chosen]]))


def _draw(choice: Choice, radius: float | None, out: Path) -> None:
    """The trade-off: accuracy at 0 against ACR, or accuracy at `radius` against ACR."""
    across = 0.0 if radius is None else radius
    points = np.array([[curve.accuracy(across), curve.acr] for curve in choice.curves])
    names = ("certified accuracy at 0" if radius is None else _goal(radius), "ACR")
    for path in draw_choice(points, choice.chosen, out, labels=names):
        typer.echo(f"wrote {path}", err=True)
