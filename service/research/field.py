"""The field's published figures, to stand beside ours: where they lead, and where we do.

Recomputed from the tables that the authors published (eth-sri/acr-weakness, 10,000 test images each), or quoted from
papers where there is no table. What a paper does not say stays open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core import interval
from ..errors import DataError
from .curves import Curve, with_interval

__all__ = ("FIELD", "Published", "compared", "field_of", "field_table")

CONFIDENCE_ERROR = 0.05  # of each interval


@dataclass(frozen=True, kw_only=True)
class Published:
    """accuracy: by radius, in L2 of [0, 1] pixels. images, acr: None where nobody says."""

    name: str
    accuracy: Mapping[float, float]
    acr: float | None = None
    images: int | None = None
    note: str = ""


_RADII = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def _of_tables(name: str, sigma: float, acr: float, *accuracy: float) -> Published:
    return Published(
        name=f"{name}, sigma {sigma:g}", accuracy=dict(zip(_RADII, accuracy, strict=False)), acr=acr, images=10_000
    )


_COHEN, _CATRS, _WEAKNESS = "Cohen et al. 2019", "CAT-RS, Jeong et al. 2023", "acr-weakness, 2024"
# alpha = .001, N = 100,000, ResNet-110, one pass a draw, no denoiser, unless a note says otherwise.
FIELD: Mapping[str, tuple[Published, ...]] = {
    "cifar10": (
        _of_tables(_COHEN, 0.25, 0.487, 0.804, 0.668, 0.505, 0.327),
        _of_tables(_COHEN, 0.5, 0.571, 0.688, 0.582, 0.462, 0.345, 0.245, 0.102),
        _of_tables(_COHEN, 1.0, 0.543, 0.509, 0.435, 0.365, 0.300, 0.239, 0.137, 0.066),
        _of_tables(_CATRS, 0.25, 0.562, 0.763, 0.681, 0.588, 0.482),
        _of_tables(_CATRS, 0.5, 0.757, 0.623, 0.568, 0.505, 0.446, 0.385, 0.271),
        _of_tables(_CATRS, 1.0, 0.815, 0.432, 0.402, 0.372, 0.343, 0.310, 0.249, 0.193),
        _of_tables(_WEAKNESS, 0.25, 0.564, 0.766, 0.691, 0.593, 0.483),
        _of_tables(_WEAKNESS, 0.5, 0.760, 0.593, 0.548, 0.496, 0.444, 0.389, 0.290),
        _of_tables(_WEAKNESS, 1.0, 0.844, 0.420, 0.394, 0.365, 0.339, 0.311, 0.256, 0.206),
        Published(
            name="Carlini et al. 2022",
            accuracy={0.25: 0.793},
            note="denoise and classify: a diffusion model of 50 M parameters, ViT-B",
        ),
        Published(
            name="Chen et al. 2024", accuracy={0.25: 0.80, 0.5: 0.70}, note="denoise and classify; these, or more"
        ),
    ),
}


def field_of(name: str) -> tuple[Published, ...]:
    """Raises DataError, naming what there is."""
    if name not in FIELD:
        raise DataError(f"field: expected one of {', '.join(FIELD)}, got {name!r}")
    return FIELD[name]


def field_table(rows: Sequence[Published], radii: Sequence[float]) -> str:
    """Markdown, at the radii of these rows that are among `radii`, or all of them."""
    known = [r for r in _RADII if r in radii] or list(_RADII)
    head = ["as published", "n", *(f"{r:g}" for r in known), "ACR", ""]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for row in rows:
        cells = [row.name, "" if row.images is None else f"{row.images}"]
        cells += ["" if r not in row.accuracy else f"{row.accuracy[r]:.3f}" for r in known]
        cells += ["" if row.acr is None else f"{row.acr:.3f}", row.note]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def compared(curves: Sequence[Curve], rows: Sequence[Published]) -> list[str]:
    """At each radius that both have: who leads, our best curve or the field's best row. A line each, never the ACR.

    Somebody leads where the two 95% intervals (ours alone, where the field gives no n) do not meet. The best of several
    curves is the luckiest one too: to lead, it needs an interval at that error's part.
    """
    lines = []
    proved = [curve for curve in curves if curve.policy != "reference"] or list(curves)
    for radius in _RADII:
        theirs = [row for row in rows if radius in row.accuracy]
        best = max(theirs, key=lambda row: row.accuracy[radius], default=None)
        if best is None:
            continue
        ours = max(proved, key=lambda curve: curve.accuracy(radius))
        lines.append(f"- r = {radius:g}: {_who_leads(ours, best, radius, of=len(proved))}")
    return lines


def _who_leads(ours: Curve, best: Published, radius: float, *, of: int) -> str:
    """of: how many curves ours is the best of."""
    low, high = ours.accuracy_interval(radius)
    share = best.accuracy[radius]
    floor, ceiling = (share, share)
    if best.images is not None:
        floor, ceiling = interval(round(share * best.images), best.images, CONFIDENCE_ERROR)
    own = with_interval(f"{ours.accuracy(radius):.3f}", (low, high), 3)
    figures = f"{ours.name} {own}, {best.name} {share:.3f}"
    if high < floor:
        return f"**the field leads**: {figures}"
    alone = interval(round(ours.accuracy(radius) * len(ours)), len(ours), CONFIDENCE_ERROR / of)
    if alone[0] > ceiling:
        return f"**this table leads**: {figures}"
    return f"not told apart on {len(ours.correct)} images: {figures}"
