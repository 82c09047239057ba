"""The best-of-paths certificate over a cascade of noise scales.

Level 0 is the finest scale. The cascade asks the coarsest scale first; a class above that scale's threshold is the
answer, otherwise the next finer scale is asked. With `final="plurality"` the finest scale answers with its most
probable class instead of a last threshold.

For a label y, level k contributes two terms:

    own(k)     how far y stays the answer of level k          rho_k = psi_k(l_k) - psi_k(p0_k)
               (finest scale by plurality)                    rho_0 = (psi_0(l_0) - psi_0(u_0)) / 2
    shield(k)  how far no other class can be level k's answer eta_k = psi_k(p0_k) - psi_k(u_k)

with l_k a lower bound on y's probability and u_k an upper bound on every rival's; psi_k of a class's probability moves
no faster than the image does. psi_k(p) is sigma_k Phi^-1(p) for Gaussian noise (Salman et al. 2019, Lemma 2), in L2;
other noises have theirs, in L1 (laws.py). Theorem 1, and A: y is the cascade's answer within
max_k min(own(k), min_{j>k} shield(j)).  Proofs: docs/protocol.md, 2.2 and 2.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import TYPE_CHECKING, Literal

from .bounds import clopper_pearson_lower, clopper_pearson_upper, floor_radius
from .laws import LAWS, Law, Noise
from .reasons import Reason

if TYPE_CHECKING:
    from ...models.bundle import Final

__all__ = ("Cascade", "Certificate", "cascade_certificate")

# Weights that sum to 1 in decimal may miss it by a few ulp in binary; the outward rounding of the bounds covers that.
_WEIGHT_SLACK = 1e-12


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What the bounds prove. Radii are in the cascade's norm, cut down to six digits; lists start at level 0."""

    radius: float  # 0.0 when nothing is certified
    level: int | None  # the best path's level; the coarser one on ties
    path_radii: tuple[float | None, ...]  # None where the path is closed
    lower: tuple[float, ...]  # on the label's probability
    upper: tuple[float, ...]  # on every other class's probability
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """Scales, thresholds, noises and the finest scale's rule: the function that is certified.

    sigmas: standard deviations of the noise, strictly ascending, > 0, in units of the image. thresholds: one per sigma,
    each in [0.5, 1): below 0.5 a class above it would not be unique. noise: of each sigma; () is Gaussian at all, of
    that standard deviation. Raises ValueError, naming the argument.
    """

    sigmas: tuple[float, ...]
    thresholds: tuple[float, ...]
    # plurality: the finest scale needs no majority to answer, so that more images are certified, at no cost in proof.
    final: Final = "plurality"
    noise: tuple[Noise, ...] = ()

    def __post_init__(self) -> None:
        if not self.sigmas or not all(0.0 < s < math.inf for s in self.sigmas):
            raise ValueError(f"sigmas: expected at least one finite value > 0, got {self.sigmas}")
        if any(b <= a for a, b in zip(self.sigmas, self.sigmas[1:], strict=False)):
            raise ValueError(f"sigmas: expected strictly ascending values, got {self.sigmas}")
        if len(self.thresholds) != len(self.sigmas):
            raise ValueError(f"threshold: expected one value or {len(self.sigmas)}, got {len(self.thresholds)}")
        if not all(0.5 <= t < 1.0 for t in self.thresholds):
            raise ValueError(f"threshold: expected values in [0.5, 1), got {self.thresholds}")
        if self.final not in ("plurality", "threshold"):
            raise ValueError(f"final: expected 'plurality' or 'threshold', got {self.final!r}")
        self._check_noise()

    def _check_noise(self) -> None:
        if len(self.noise) not in (0, len(self.sigmas)):
            raise ValueError(f"noise: expected {len(self.sigmas)}, one for each sigma, got {len(self.noise)}")
        for (kind, scale), sigma in zip(self.noise, self.sigmas, strict=False):
            if kind not in LAWS or not 0.0 < scale < math.inf:
                raise ValueError(f"noise: expected one of {', '.join(LAWS)} and a scale > 0, got {kind!r}, {scale}")
            if kind == "gaussian" and scale != sigma:
                raise ValueError(f"noise: expected the scale of Gaussian noise to be its sigma {sigma}, got {scale}")
        if self.noise and all(kind == "gaussian" for kind, _ in self.noise):
            object.__setattr__(self, "noise", ())  # one way to say it: equal functions are equal cascades

    @classmethod
    def of(
        cls,
        sigmas: Sequence[float],
        threshold: float | Sequence[float] = 0.5,  # the least that leaves one class above it
        final: Final = "plurality",
        noise: Sequence[Noise] = (),  # Gaussian
    ) -> Cascade:
        """Accepts one threshold for every scale, or one for each."""
        values = tuple(threshold) if isinstance(threshold, Sequence) else (threshold,) * len(sigmas)
        return cls(
            sigmas=tuple(map(float, sigmas)), thresholds=tuple(map(float, values)), final=final, noise=tuple(noise)
        )

    @property
    def levels(self) -> int:
        """How many scales there are."""
        return len(self.sigmas)

    @cached_property
    def noises(self) -> tuple[Noise, ...]:
        """Each level's noise."""
        return self.noise or tuple(Noise("gaussian", sigma) for sigma in self.sigmas)

    @property
    def norm(self) -> Literal["l2", "l1"]:
        """Of every radius here. A cascade of Gaussian levels alone certifies L2, and L1 too: |d|_2 <= |d|_1."""
        return "l1" if self.noise else "l2"

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """The factor of each level's psi: its sigma, b or 2L."""
        return tuple(scale for _, scale in self.noises)

    @cached_property
    def laws(self) -> tuple[Law, ...]:
        """Each level's noise at scale 1: psi_k(p) = scales[k] * laws[k].quantile(p)."""
        return tuple(LAWS[kind] for kind, _ in self.noises)

    @cached_property
    def bases(self) -> tuple[float, ...]:
        """The quantile of each level's threshold, in units of its scale."""
        return tuple(law.quantile(threshold) for law, threshold in zip(self.laws, self.thresholds, strict=True))

    def by_plurality(self, level: int) -> bool:
        """Whether this level answers with its most probable class, above no threshold."""
        return level == 0 and self.final == "plurality"

    def error_split(self, weights: Sequence[float]) -> list[tuple[float, float]]:
        """Theorem 3 (docs/protocol.md, 3.2): the share of alpha that each level's (lower, upper) bound may spend.

        A lower bound pays its level's weight; an upper bound pays the weights of all finer levels together. One path
        costs no split, because a minimum of bounds fails only where its binding term fails. At a plurality level both
        bounds enter one term, so they halve its weight. Raises ValueError unless weights are >= 0, one a level, sum 1.
        """
        if len(weights) != self.levels or not all(w >= 0.0 for w in weights):
            raise ValueError(f"weights: expected {self.levels} values >= 0, got {list(weights)}")
        if not abs(math.fsum(weights) - 1.0) <= _WEIGHT_SLACK:
            raise ValueError(f"weights: expected a sum of 1, got {math.fsum(weights)}")
        shares = [(w, math.fsum(weights[:k])) for k, w in enumerate(weights)]
        if self.final == "plurality":
            shares[0] = (weights[0] / 2, weights[0] / 2)
        return shares

    def own(self, level: int, lower: float, upper: float) -> float | None:
        """rho: the radius within which `level` keeps answering y, or None where it does not provably answer y."""
        if self.by_plurality(level):
            if lower <= upper:
                return None
            quantile = self.laws[0].quantile
            return self.scales[0] / 2 * (quantile(lower) - quantile(upper))
        if lower <= self.thresholds[level]:
            return None
        return self.scales[level] * (self.laws[level].quantile(lower) - self.bases[level])

    def shield(self, level: int, upper: float) -> float | None:
        """eta: the radius within which `level` answers no other class, or None where it might."""
        if upper >= self.thresholds[level]:
            return None
        return self.scales[level] * (self.bases[level] - self.laws[level].quantile(upper))

    def terms(self, level: int, lower: float, upper: float) -> tuple[float | None, float | None]:
        """(own(), shield()) of `level`."""
        return self.own(level, lower, upper), self.shield(level, upper)

    def certify(self, lower: Sequence[float], upper: Sequence[float]) -> Certificate:
        """Theorem A on valid bounds: the best path and its radius.

        lower, upper: in [0, 1], one a level, finest first, on the label's and on every other class's probability.
        """
        terms = [self.terms(k, low, up) for k, (low, up) in enumerate(zip(lower, upper, strict=True))]
        paths = self._paths(terms)
        best, level = max(((r, k) for k, r in enumerate(paths) if r is not None), default=(0.0, None))
        radius = floor_radius(best)
        if radius > 0.0:
            reason = Reason.CERTIFIED
        elif any(own is not None for own, _ in terms):
            reason = Reason.BLOCKED
        else:
            plural = self.final == "plurality"
            reason = Reason.UNDECIDED if plural else Reason.NO_LEVEL_CONFIDENT
        return Certificate(
            radius=radius,
            level=level if radius > 0.0 else None,
            path_radii=tuple(None if r is None else floor_radius(r) for r in paths),
            lower=tuple(lower),
            upper=tuple(upper),
            reason=reason,
        )

    def radius(self, terms: Sequence[tuple[float | None, float | None]]) -> float:
        """certify()'s radius alone. terms: of each level."""
        return floor_radius(max([r for r in self._paths(terms) if r is not None], default=0.0))

    def _paths(self, terms: Sequence[tuple[float | None, float | None]]) -> list[float | None]:
        """The radius of each level's path, unrounded; None where it is closed."""
        paths: list[float | None] = [None] * self.levels
        ceiling = math.inf  # the least of the shields above
        for k in reversed(range(self.levels)):
            own, shield = terms[k]
            if own is not None:
                paths[k] = min(own, ceiling)
            if shield is None:  # open: no finer level is asked in safety
                break
            ceiling = min(ceiling, shield)
        return paths


def level_bounds(label_count: int, rival_count: int, trials: int, alpha: tuple[float, float]) -> tuple[float, float]:
    """(l, u) of one level: l at alpha[0]; u from the most voted rival at alpha[1], or 1 - l if that is smaller.

    The rival needs no correction for being the largest of many (Theorem 2: docs/protocol.md, 3.1), and 1 - l costs no
    error of its own (Theorem 3: docs/protocol.md, 3.2).
    """
    lower = clopper_pearson_lower(label_count, trials, alpha[0])
    complement = min(1.0, 1.0 - lower + 1e-15)  # 1 - l rounds to nearest; an ulp keeps it on the safe side
    return lower, min(clopper_pearson_upper(rival_count, trials, alpha[1]), complement)


def cascade_certificate(
    cascade: Cascade, counts: Sequence[Sequence[int]], label: int, alpha: float, weights: Sequence[float]
) -> Certificate:
    """The certificate of fixed counts: one look a level, at the whole of `alpha`.

    counts: (levels, classes) votes, level 0 the finest; fresh draws, independent of how `label` and `weights` were
    chosen (docs/protocol.md, 3.2). alpha: in (0, 1). weights: >= 0, sum 1. With one level and final="threshold" this
    is CERTIFY of Cohen, Rosenfeld and Kolter (2019). Raises ValueError, naming the argument.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha: expected a failure probability in (0, 1), got {alpha}")
    if len(counts) != cascade.levels:
        raise ValueError(f"counts: expected one row for each of {cascade.levels} sigmas, got {len(counts)}")
    lower, upper = [], []
    for row, (share_lower, share_upper) in zip(counts, cascade.error_split(weights), strict=True):
        votes = [index(v) for v in row]
        if not 0 <= label < len(votes):
            raise ValueError(f"label: expected 0 <= label < {len(votes)}, got {label}")
        if min(votes) < 0:
            raise ValueError(f"counts: expected values >= 0, got {min(votes)}")
        rival = max((v for c, v in enumerate(votes) if c != label), default=0)
        low, up = level_bounds(votes[label], rival, sum(votes), (alpha * share_lower, alpha * share_upper))
        lower.append(low)
        upper.append(up)
    return cascade.certify(lower, upper)
