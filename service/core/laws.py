"""Unit noise: psi of docs/protocol.md, 2.3, is a scale times the quantile function of the noise's own law.

A probability p at level k lies `scale * quantile(p)` along an axis on which it moves no faster than the image does, in
the noise's norm. cdf and density are that function's inverse and its inverse's slope, for the planner.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .bounds import normal_cdf, normal_quantile

if TYPE_CHECKING:
    from ...models.noises import NoiseKind

__all__ = ("LAWS", "Law", "Noise")


class Noise(NamedTuple):
    """A level's noise. scale: the factor of its psi: sigma, b or 2L.

    b and 2L are never above the constant of what is drawn. sigma is the float64 nearest to the decimal that is drawn
    with, half an ulp above it at most: what bounds.floor_radius takes off is thousands of times as much.
    """

    kind: NoiseKind
    scale: float


class Law(NamedTuple):
    """A symmetric distribution on the line. quantile is 0 at 1/2 exactly, and defined on all of [0, 1]."""

    quantile: Callable[[float], float]
    cdf: Callable[[float], float]
    density: Callable[[float], float]


def _normal_density(z: float) -> float:
    return math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _laplace_quantile(p: float) -> float:
    """2p and 1 - p are exact in float64 where they are used, so that only the logarithm rounds."""
    if p < 0.5:
        return math.log(2.0 * p) if p > 0.0 else -math.inf
    return -math.log(2.0 * (1.0 - p)) + 0.0 if p < 1.0 else math.inf  # + 0.0: log 1 is 0, not -0


def _laplace_cdf(z: float) -> float:
    return 0.5 * math.exp(z) if z < 0.0 else 1.0 - 0.5 * math.exp(-z)


def _laplace_density(z: float) -> float:
    return 0.5 * math.exp(-abs(z))


def _uniform_quantile(p: float) -> float:
    return p - 0.5


def _uniform_cdf(z: float) -> float:
    return min(1.0, max(0.0, z + 0.5))


def _uniform_density(z: float) -> float:
    """Inside the support: quantiles lie nowhere else."""
    return 1.0


# Gaussian: variance 1. Laplace: b = 1. Uniform: from -1/2 to 1/2, so that its scale is the whole width.
_UNIFORM = Law(_uniform_quantile, _uniform_cdf, _uniform_density)
LAWS: dict[NoiseKind, Law] = {
    "gaussian": Law(normal_quantile, normal_cdf, _normal_density),
    "laplace": Law(_laplace_quantile, _laplace_cdf, _laplace_density),
    "uniform": _UNIFORM,
    "splitting": _UNIFORM,
}
