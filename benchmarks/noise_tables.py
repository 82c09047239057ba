"""What votes of several kinds of noise say, as the tables and pictures of docs/results.md."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.cards import here, listed
from benchmarks.noise_counts import Counted
from benchmarks.report import table
from benchmarks.tables import CURVES, named, only
from certify.models.noises import NoiseKind
from certify.service.research.curves import INTERVALS, Curve, curves_of_votes, markdown
from certify.service.research.figures import draw
from certify.service.research.votes_file import VotesFile

__all__ = ("Measured", "alone", "report")

Measured = VotesFile | Counted

RADII = {"digits": (0.0, 0.1, 0.25, 0.5, 0.75), "cifar10": (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)}
VALUES = {"digits": 64, "cifar10": 3072}  # of an image
OWN, HALVES = "best, the bundle's thresholds", "best, p0 = .5"


def report(bundle: str, as_it_is: Mapping[NoiseKind, Measured], tuned: Mapping[NoiseKind, Measured], steps: int) -> str:
    """Tables and pictures. tuned: of the denoiser fine-tuned for each noise by `steps`, on the first of the images; may
    be empty."""
    plain = {kind: curves_of(of) for kind, of in as_it_is.items()}
    better = {kind: curves_of(of) for kind, of in tuned.items()}
    before = {kind: _same_images(of, tuned[kind]) for kind, of in as_it_is.items() if tuned}
    earlier = {kind: curves_of(of) for kind, of in before.items()}
    rows = [named(curve, f"{kind}: {curve.name}") for kind, curves in plain.items() for curve in curves]
    parts: list[str] = [
        _head(bundle, as_it_is),
        "**As it is**: the Gaussian-trained denoiser under every noise, in L1. A Gaussian L2 radius is one in L1 too.",
        markdown(rows, RADII[bundle]),
        INTERVALS,
        _keeps(plain),
        _shares(as_it_is, {}),
    ]
    if better:
        chosen = (OWN, HALVES, "first, p0 = .5")
        rows = [
            named(curve, f"{kind}: {curve.name}")
            for kind, curves in better.items()
            for curve in curves
            if curve.name in chosen
        ]
        parts += [
            "**Fine-tuned** for each noise, also Gaussian: the denoiser through the frozen classifier, Brier's score "
            f"and anti-consistency, {steps} steps, one seed; judged by the first {len(next(iter(better.values()))[0])} "
            "of these images.",
            markdown(rows, RADII[bundle]),
            _gains(earlier, better),
            _shares(before, tuned),
            _before_and_after(bundle, earlier, better),
        ]
    parts += _pictures(bundle, plain)
    return "\n\n".join(parts)


def curves_of(measured: Measured) -> list[Curve]:
    """Every scale alone, `best` at the bundle's own thresholds, and the policies at p0 = .5 as published."""
    halves = [0.5] * len(measured.sigmas)
    if isinstance(measured, Counted):
        untuned = measured.cascade(halves, "threshold")
        return [
            *(measured.single(level) for level in range(len(measured.sigmas))),
            measured.best(OWN, measured.cascade()),
            measured.best(HALVES, untuned),
            measured.first("first, p0 = .5", untuned),
        ]
    all_of_it = curves_of_votes(measured)
    published = curves_of_votes(measured, thresholds=halves, final="threshold", singles=False)
    return [
        *(c for c in all_of_it if (c.policy, c.final) == ("single", "plurality")),
        named(only(all_of_it, "best"), OWN),
        *(named(only(published, policy), f"{policy}, p0 = .5") for policy in ("best", "first", "reference")),
    ]


def _head(bundle: str, as_it_is: Mapping[NoiseKind, Measured]) -> str:
    drawn, counted = as_it_is["gaussian"], as_it_is["splitting"]
    assert isinstance(drawn, VotesFile) and isinstance(counted, Counted)
    return (
        f"`{bundle}`: {len(drawn.idx)} test images, sigmas {listed(drawn.sigmas.tolist())}, thresholds "
        f"{listed(drawn.thresholds.tolist())}; drawn noise N = {drawn.samples} at each scale and a pilot of "
        f"{drawn.pilot_samples}, alpha = {float(drawn.alpha):g}, in {drawn.runtime}; splitting counted, N = "
        f"{', '.join(map(str, counted.offsets))}, alpha = 0, in {counted.runtime}. On {here()}."
    )


def _keeps(plain: Mapping[NoiseKind, Sequence[Curve]]) -> str:
    """The paper's method under each noise: against its own certificate, and against the best single scale."""
    rows = []
    for kind, curves in plain.items():
        by_name = {curve.name: curve for curve in curves}
        best, first = by_name[HALVES], by_name["first, p0 = .5"]
        single = max((c for c in curves if c.policy == "single"), key=lambda curve: curve.acr)
        rows.append(
            [kind, f"{best.acr:.4f}", f"{best.acr / first.acr - 1:+.1%}", _against(best, single), single.name]
            + [_against(by_name[OWN], single)]
        )
    head = ["noise", "ACR of best, p0 = .5", "against first", "against the best single scale", "which is"]
    return "What the cascade keeps under each noise, by ACR:\n\n" + table(
        [*head, "best at the bundle's thresholds against it"], rows
    )


def _against(curve: Curve, other: Curve) -> str:
    return f"{curve.acr / other.acr - 1:+.1%}" if other.acr else "(0)"


def _same_images(measured: Measured, fewer: Measured) -> Measured:
    """measured: of more images, in the same order."""
    if isinstance(measured, Counted):
        count = len(fewer.labels)
        return dataclasses.replace(measured, counts=measured.counts[:count], labels=measured.labels[:count])
    assert isinstance(fewer, VotesFile)
    return measured.part(np.flatnonzero(np.isin(measured.idx, fewer.idx)).tolist())


def _shares(as_it_is: Mapping[NoiseKind, Measured], tuned: Mapping[NoiseKind, Measured]) -> str:
    """Of all draws, those that the true class gets: by what the radius is made of, before any bound."""
    rows = []
    for kind, of in as_it_is.items():
        for when, measured in (("as it is", of), ("fine-tuned", tuned.get(kind))):
            if measured is not None:
                right = _right(measured)
                rows.append([kind, when, *(f"{share:.3f}" for share in right.mean(axis=0))])
    sigmas = [f"sigma {sigma:g}" for sigma in as_it_is["gaussian"].sigmas]
    count = len(as_it_is["gaussian"].labels)
    return f"Share of an image's draws that are of the true class, mean over {count} images:\n\n" + table(
        ["noise", "denoiser", *sigmas], rows
    )


def _right(measured: Measured) -> NDArray[np.float64]:
    """(n, K)"""
    counts = measured.counts if isinstance(measured, Counted) else measured.counts()
    own = np.take_along_axis(counts, measured.labels[:, None, None], axis=2)[:, :, 0]
    shares: NDArray[np.float64] = own / counts.sum(axis=2)
    return shares


def _gains(plain: Mapping[NoiseKind, Sequence[Curve]], better: Mapping[NoiseKind, Sequence[Curve]]) -> str:
    rows = []
    for kind, curves in better.items():
        before = {curve.name: curve for curve in plain[kind]}
        cells: list[str] = [kind]
        for curve in (c for c in curves if c.name in (OWN, HALVES)):
            old = before[curve.name]
            gain = curve.correct * curve.radius - old.correct * old.radius
            cells += [f"{old.acr:.4f} to {curve.acr:.4f}", f"{gain.mean():+.4f} ({_error(gain):.4f})"]
        rows.append(cells)
    head = ["noise", "ACR of best, bundle's thresholds", "gain an image (standard error)", "p0 = .5", "gain"]
    return "What fine-tuning for a noise gives under it, image by image:\n\n" + table(head, rows)


def _error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _pictures(bundle: str, plain: Mapping[NoiseKind, Sequence[Curve]]) -> list[str]:
    """Of the denoiser as it is, in both norms."""
    shown = [named(c, kind) for kind, of in plain.items() for c in of if c.name == HALVES]
    title = f"{bundle}, {len(shown[0])} images, {HALVES}"
    draw(shown, CURVES / f"noises-{bundle}-l1.png", title=title)
    across = math.sqrt(VALUES[bundle])
    l2 = [c if c.norm == "l2" else dataclasses.replace(c, radius=c.radius / across, norm="l2") for c in shown]
    draw(l2, CURVES / f"noises-{bundle}-l2.png", title=title)
    rows = [[c.name, f"{c.acr:.4f}", *(f"{c.accuracy(r):.3f}" for r in (0.05, 0.1, 0.25, 0.5))] for c in l2]
    return [
        f"**In L2** an L1 ball of radius R holds one of R / sqrt({VALUES[bundle]}), which is all that the other noises "
        f"certify there (`best` at p0 = .5, {len(shown[0])} images; accuracy at each radius):",
        table(["noise", "ACR", "0.05", "0.1", "0.25", "0.5"], rows),
        f"![certified accuracy in L1](curves/noises-{bundle}-l1.svg)\n![in L2](curves/noises-{bundle}-l2.svg)",
    ]


def _before_and_after(
    bundle: str, before: Mapping[NoiseKind, Sequence[Curve]], better: Mapping[NoiseKind, Sequence[Curve]]
) -> str:
    shown = [
        named(curve, f"{kind}, {when}")
        for kind in better
        for when, curves in (("as it is", before[kind]), ("fine-tuned", better[kind]))
        for curve in curves
        if curve.name == HALVES
    ]
    draw(shown, CURVES / f"noises-{bundle}-tuned.png", title=f"{bundle}, {len(shown[0])} images, {HALVES}")
    return f"![before and after fine-tuning](curves/noises-{bundle}-tuned.svg)"


def alone(counted: Counted, first: int) -> str:
    """Deterministic L1 by one scale, and by all up to it: of the first few images, and of all."""
    rows = []
    whole = len(counted.labels)
    for level, offsets in enumerate(counted.offsets):
        scales = slice(level + 1)
        together = dataclasses.replace(
            counted, sigmas=counted.sigmas[scales], thresholds=(0.5,) * (level + 1), counts=counted.counts[:, scales]
        )
        for images in (first, whole):
            few = dataclasses.replace(together, counts=together.counts[:images], labels=together.labels[:images])
            rows.append([offsets, *_deterministic(few.single(level), offsets)])
            if level:
                names = " and ".join(map(str, few.offsets))
                rows.append([f"{names}, best, p0 = .5", *_deterministic(few.best("", few.cascade()), offsets)])
    head = ["N", "images", "right", "wrong", "abstained", "mean radius of the right", "ACR", "most possible"]
    sigmas = ", ".join(f"{sigma:g}" for sigma in counted.sigmas)
    return (
        "**Deterministic L1 by one scale, and by several**: all N offsets counted, alpha = 0, nothing drawn, the "
        f"denoiser as it is, sigma {sigmas}:\n\n" + table(head, rows)
    )


def _deterministic(curve: Curve, offsets: int) -> list[str]:
    wrong, abstained = int((~curve.correct & ~curve.abstained).sum()), int(curve.abstained.sum())
    counts = [str(count) for count in (len(curve), int(curve.correct.sum()), wrong, abstained)]
    right = f"{curve.radius[curve.correct].mean():.4f}" if curve.correct.any() else ""
    return [*counts, right, f"{curve.acr:.4f}", f"{offsets / 510:.3f}"]
