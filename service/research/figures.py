"""Curves and choices as pictures, each as PNG and SVG. matplotlib is an extra, so it is imported where it draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models.files import whole_file
from ..errors import DataError
from .curves import Curve

__all__ = ("draw", "draw_choice", "save_figure")

_MARKS = "os^Dv*PX<>phd"


def draw(
    curves: Sequence[Curve], out: Path, *, title: str = "", points: Mapping[str, Mapping[float, float]] | None = None
) -> list[Path]:
    """Write out.png and out.svg (whatever the suffix of `out`). Raises DataError without matplotlib.

    points: others' certified accuracy at some radii, by their names.
    """
    figure, axes = _figure()
    for curve in curves:
        # A step down at each certified radius: exact, where a grid of radii would blur it.
        radii = np.sort(curve.radius[curve.correct])
        n = len(curve.correct)
        x = np.concatenate([[0.0], radii])
        y = np.concatenate([[len(radii) / n], (len(radii) - np.arange(1, len(radii) + 1)) / n])
        axes.step(x, y, where="post", label=_label(f"{curve.name} (ACR {curve.acr:.3f})"), linewidth=1.4)
    for at, (name, accuracy) in enumerate((points or {}).items()):
        # Grey, told apart by their marks: curves have the colours, of which there are but ten.
        mark, shade = _MARKS[at % len(_MARKS)], f"{0.2 + 0.4 * (at % 3) / 2:.1f}"
        axes.plot(
            list(accuracy), list(accuracy.values()), marker=mark, color=shade, label=name,
            linestyle=":", linewidth=0.8, markersize=5, markerfacecolor="none",
        )  # fmt: skip
    # An L2 radius is one in L1 too: beside one in L1 it stands as that.
    norm = "L1" if any(curve.norm == "l1" for curve in curves) else "L2"
    axes.set_xlabel(f"radius ({norm}, pixels in [0, 1])")
    axes.set_ylabel("certified accuracy")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    if title:
        axes.set_title(title.encode("utf-8", "backslashreplace").decode())
    try:
        return save_figure(figure, out)
    except ValueError as error:  # of its mathematics, between dollars
        raise DataError(f"title: expected text that matplotlib draws, got {title!r}") from error


def _label(name: str) -> str:
    """A file's name as matplotlib shows it: it is no mathematics, may be no UTF-8, and would hide behind a `_`."""
    text = name.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def draw_choice(points: NDArray[np.float64], chosen: int, out: Path, *, labels: tuple[str, str]) -> list[Path]:
    """Scatter of candidates: points (m, 2), the chosen one marked."""
    figure, axes = _figure()
    axes.scatter(points[:, 0], points[:, 1], s=14, alpha=0.6, label="candidates")
    axes.scatter(*points[chosen], s=90, marker="*", color="tab:red", label="chosen")
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return save_figure(figure, out)


def _figure() -> tuple[Any, Any]:
    """(figure, axes) of matplotlib, which is an extra."""
    try:
        import matplotlib
    except ImportError as error:
        raise DataError("expected matplotlib, to draw with (pip install 'certify[plot]')") from error
    matplotlib.use("agg")  # files only: no display is looked for
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    return figure, axes


def save_figure(figure: Any, out: Path) -> list[Path]:
    """Write a matplotlib figure to out.png and out.svg and close it; equal figures give equal files.

    Raises DataError where they cannot be written.
    """
    from matplotlib import pyplot, rc_context

    written = [out.with_suffix(".png"), out.with_suffix(".svg")]
    with rc_context({"svg.hashsalt": "certify"}):
        with whole_file(written[0]) as fresh:
            figure.savefig(fresh, format="png", dpi=120)
        with whole_file(written[1]) as fresh:
            figure.savefig(fresh, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return written
