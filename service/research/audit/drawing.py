"""The curve as SVG, to stand inside a page: text as text, no address that anything is fetched from."""

from __future__ import annotations

import io

import numpy as np

from ..curves import Curve
from .schemas import AtRadius, CurveFigures
from .words import NORMS

__all__ = ("curve_svg",)

# Dark enough on white for whoever sees little (WCAG 2.2: 3:1 for what is drawn).
_COLOUR = "#1f4e8c"


def curve_svg(curve: Curve, figures: CurveFigures, radii: list[AtRadius], confidence: float) -> str:
    """An <svg> element: a step down at each certified radius, the band, and the intervals at the named radii.

    Equal figures give equal text. Needs matplotlib.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    right = np.sort(curve.radius[curve.correct])
    n = len(curve.correct)
    # Beyond the last certified radius the curve is 0, and its band is not.
    end = 1.05 * max(0.1, *right[-1:], *(at.radius for at in radii))
    x = np.concatenate([[0.0], right, [end]])
    y = np.append((len(right) - np.arange(len(right) + 1)) / n, 0.0)
    with rc_context({"svg.hashsalt": "certify", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        axes = figure.subplots()
        lower, upper = np.clip(y - figures.band, 0, 1), np.clip(y + figures.band, 0, 1)
        axes.fill_between(
            x, lower, upper, step="post", color=_COLOUR, alpha=0.2, linewidth=0,
            label=f"band at confidence {confidence:.10g}, all radii at once",
        )  # fmt: skip
        axes.step(x, y, where="post", color=_COLOUR, linewidth=1.6, label=f"certified accuracy of {n} images")
        shares = [at.certified for at in radii]
        errors = [[s.share - s.lower for s in shares], [s.upper - s.share for s in shares]]
        axes.errorbar(
            [at.radius for at in radii], [s.share for s in shares], yerr=np.clip(errors, 0, 1),
            fmt="o", markersize=4, capsize=4, color="black", linewidth=1, clip_on=False,
            label="exact interval at one radius",
        )  # fmt: skip
        axes.set_xlabel(f"radius ({NORMS[curve.norm]}, pixels in [0, 1])")
        axes.set_ylabel("certified accuracy")
        axes.set_xlim(0, end)
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
