"""Certified accuracy against radius, as the field draws it, and the table that goes with it.

Certified accuracy at r: the share of images whose prediction is right and whose radius is at least r. ACR: the average
certified radius, 0 where wrong or abstained. Each stands with n and an interval over images: another sample of as many
images would give another figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...models.bundle import Final
from ..core import Cascade, PilotPlan, interval, plan_from_pilot
from ..errors import DataError
from .missing import expected_images, missing_of, missing_votes
from .policies import POLICIES, Outcome, Policy, certify
from .radii import radii_up_to
from .tables import ABSTAIN, Table, facts_path, load_facts, read_table
from .votes_file import VotesFile, load_votes

__all__ = (
    "INTERVALS",
    "Curve",
    "curve_of_outcomes",
    "curves_of_tables",
    "curves_of_votes",
    "load",
    "markdown",
    "plans_of",
    "radii_of",
    "with_interval",
)

ERROR = 0.05  # of an interval, both sides together, as the field's tables have it
INTERVALS = "n: images. In brackets: 95% intervals, exact (Clopper and Pearson) of a share, a bootstrap's of the ACR."
RESAMPLES = 1_000  # of the bootstrap: the ends of its interval are then good to a twentieth of its width
_SUFFIXES = (".tsv", ".csv", ".txt")  # "sigma_0.25" has none
FINALS: tuple[Final, ...] = ("threshold", "plurality")  # how one scale alone can decide


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One line: what became of each image. None: not known, or not one for all of it."""

    name: str  # for people; a program looks for a curve by the other fields
    policy: str | None  # one of POLICIES, or what a table says
    sigma: float | None  # of "single"
    final: str | None  # "plurality" or "threshold"
    correct: NDArray[np.bool_]  # abstained: False
    abstained: NDArray[np.bool_]
    radius: NDArray[np.float64]
    samples: NDArray[np.int64] | None
    norm: str = "l2"  # of its radii
    expected: int | None = None  # images that its run has in all
    missing: tuple[str, ...] = ()  # what of them is not here, in lines for people

    def __len__(self) -> int:
        return len(self.correct)

    def accuracy(self, radius: float) -> float:
        return float(np.mean(self.correct & (self.radius >= radius)))

    def accuracy_interval(self, radius: float) -> tuple[float, float]:
        """The exact 95% interval of the certified accuracy, over images."""
        return self.interval_of(self.accuracy(radius))

    def interval_of(self, share: float) -> tuple[float, float]:
        """The exact 95% interval of a share of these images."""
        return interval(round(share * len(self)), len(self), ERROR)

    @property
    def acr_interval(self) -> tuple[float, float]:
        """95%, over images, by resampling them: not exact."""
        values, random = self.correct * self.radius, np.random.default_rng(0)
        shape = (RESAMPLES // 20, len(values))  # a twentieth at a time: all would be gigabytes
        means = [values[random.integers(0, len(values), shape)].mean(axis=1) for _ in range(20)]
        low, high = np.quantile(means, [ERROR / 2, 1 - ERROR / 2])
        return float(low), float(high)

    @property
    def acr(self) -> float:
        return float(np.mean(self.correct * self.radius))

    @property
    def abstention(self) -> float:
        return float(np.mean(self.abstained))

    @property
    def wrong(self) -> float:
        return float(np.mean(~self.correct & ~self.abstained))

    @property
    def mean_samples(self) -> float | None:
        return None if self.samples is None else float(np.mean(self.samples))


def load(paths: Sequence[Path]) -> list[Curve]:
    """Curves of one run's files of votes, or of tables. Raises DataError."""
    votes = [path for path in paths if path.suffix == ".npz"]
    if votes and len(votes) < len(paths):
        raise DataError(f"{votes[0]}: expected tables only, or files of votes only")
    if votes:
        return curves_of_votes(load_votes(*votes))
    return curves_of_tables([read_table(path) for path in paths])


def curves_of_tables(tables: Sequence[Table]) -> list[Curve]:
    """A curve for each table; tables of one run are its shards and become one."""
    curves = []
    groups = _runs(tables)
    for shards, name in zip(groups, _names([shards[0].path for shards in groups]), strict=True):
        idx = np.concatenate([shard.idx for shard in shards])
        if len(set(idx.tolist())) != len(idx):
            raise DataError(
                f"{', '.join(str(shard.path) for shard in shards)}: expected shards, and an image is in two"
            )
        order = np.argsort(idx)  # the whole's, however it was cut
        samples = [shard.samples for shard in shards if shard.samples is not None]
        curves.append(
            Curve(
                name=name if len(shards) == 1 else f"{name} and {len(shards) - 1} more",
                policy=shards[0].policy,
                sigma=None,
                final=None,
                correct=np.concatenate([shard.correct for shard in shards])[order],
                abstained=np.concatenate([shard.predict for shard in shards])[order] == ABSTAIN,
                radius=np.concatenate([shard.radius for shard in shards])[order],
                samples=np.concatenate(samples)[order] if len(samples) == len(shards) else None,
                norm=_norm_of(shards[0]),
                expected=expected_images(shards),
                missing=tuple(missing_of(shards)),
            )
        )
    return curves


def _runs(tables: Sequence[Table]) -> list[list[Table]]:
    """Tables of one run together; one of no run is by itself."""
    groups: dict[str, list[Table]] = {}
    for table in tables:
        if not len(table):
            raise DataError(f"{table.path}: expected at least one row")
        groups.setdefault(table.run or str(table.path), []).append(table)
    return list(groups.values())


def _names(paths: Sequence[Path]) -> list[str]:
    """Files' names, with as many of their folders as tell them apart: the field names a file by its noise alone."""
    parts = [(*path.absolute().parent.parts, path.stem if path.suffix in _SUFFIXES else path.name) for path in paths]
    for count in range(1, max(map(len, parts), default=1)):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _norm_of(table: Table) -> str:
    """As the facts beside it say; without facts, and without a word in them, L2."""
    path = facts_path(table.path)
    return str(load_facts(path).get("radius_norm", "l2")) if path.exists() else "l2"


def curves_of_votes(
    votes: VotesFile, *, thresholds: Sequence[float] | None = None, final: Final | None = None, singles: bool = True
) -> list[Curve]:
    """Every policy, and every scale alone by both of its rules. Other thresholds than the file's are planned for anew.

    A single scale's threshold is 1/2 (Cohen, Rosenfeld and Kolter 2019).
    """
    counts, alpha = votes.counts(), float(votes.alpha)
    cascade = votes.cascade(thresholds, final)
    plans = plans_of(votes, cascade)
    images = range(len(votes.idx))
    curves = []
    if singles:
        for k in range(len(votes.sigmas)):
            for rule in FINALS:
                alone = votes.alone(k, rule)
                outcomes = [
                    certify("single", counts[i, k : k + 1], votes.pilot[i, k : k + 1], plans[i], alone, alpha)
                    for i in images
                ]
                curves.append(curve_of_outcomes("single", alone, outcomes, votes))
    for policy in POLICIES:
        if policy != "single":
            outcomes = [certify(policy, counts[i], votes.pilot[i], plans[i], cascade, alpha) for i in images]
            curves.append(curve_of_outcomes(policy, cascade, outcomes, votes))
    return curves


def plans_of(votes: VotesFile, cascade: Cascade) -> list[PilotPlan]:
    """The file's own plans where the cascade is the file's; otherwise made again, from the pilots alone."""
    if list(cascade.thresholds) == votes.thresholds.tolist() and cascade.final == votes.final:
        return [
            PilotPlan(int(label), int(level), tuple(weights.tolist()))
            for label, level, weights in zip(votes.label, votes.planned, votes.weights, strict=True)
        ]
    return [plan_from_pilot(cascade, pilot.tolist(), float(votes.alpha), votes.samples) for pilot in votes.pilot]


def curve_of_outcomes(
    policy: Policy, cascade: Cascade, outcomes: Sequence[Outcome], votes: VotesFile, *, name: str | None = None
) -> Curve:
    """What `policy` certified on the images of `votes`, as a curve by radius, in their norm and units of [0, 1] pixels.

    cascade: what was certified; of policy single its one scale. outcomes: one an image, in the file's order; another
    number is a ValueError. name: None = the policy's; of a single scale, the scale and its rule.
    """
    sigma = cascade.sigmas[0] if policy == "single" else None
    return Curve(
        name=name or (policy if sigma is None else f"sigma {sigma:g} alone, {cascade.final}"),
        policy=policy,
        sigma=sigma,
        final=cascade.final,
        correct=np.array([o.label == truth for o, truth in zip(outcomes, votes.labels.tolist(), strict=True)]),
        abstained=np.array([o.label is None for o in outcomes]),
        radius=np.array([o.radius for o in outcomes]),
        samples=np.array([o.visited * (votes.pilot_samples + votes.samples) for o in outcomes], dtype=np.int64),
        norm=cascade.norm,
        expected=votes.expected,
        missing=tuple(missing_votes(votes)),
    )


def radii_of(curves: Sequence[Curve], *, least: float = 0.0) -> tuple[float, ...]:
    """Where a table of these curves is cut: as far as any of them goes, and to `least`."""
    return radii_up_to(max((float((c.correct * c.radius).max(initial=least)) for c in curves), default=least))


def markdown(curves: Sequence[Curve], radii: Sequence[float] | None = None) -> str:
    """A table: n, certified accuracy at each radius, ACR, abstention, share of wrong certificates, mean samples.

    Figures over images stand with their intervals (INTERVALS says which). radii: None = as far as the curves go.
    """
    cuts = radii_of(curves) if radii is None else radii
    head = ["", "n", *(f"{r:g}" for r in cuts), "ACR", "abstained", "wrong", "mean samples"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for curve in curves:
        samples = curve.mean_samples
        partial = curve.expected is not None and curve.expected > len(curve)
        shares = [*(curve.accuracy(r) for r in cuts), curve.abstention, curve.wrong]
        cells = [with_interval(f"{share:.3f}", curve.interval_of(share), 3) for share in shares]
        cells.insert(len(cuts), with_interval(f"{curve.acr:.4f}", curve.acr_interval, 4))
        count = f"{len(curve)} of {curve.expected}" if partial else f"{len(curve)}"
        lines.append("| " + " | ".join([curve.name, count, *cells, "" if samples is None else f"{samples:.0f}"]) + " |")
    return "\n".join(lines)


def with_interval(figure: str, ends: tuple[float, float], digits: int) -> str:
    """`0.430 (0.331 to 0.533)`: the ends are rounded outward."""
    scale = 10**digits
    low, high = math.floor(ends[0] * scale) / scale, math.ceil(ends[1] * scale) / scale
    return f"{figure} ({low:.{digits}f} to {high:.{digits}f})"
