"""The digits bundles' model card, from their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cards import certificates, here, listed
from benchmarks.report import table
from certify.models.bundle import Manifest
from certify.models.train.config import TrainConfig
from certify.service.research.curves import Curve

__all__ = ("RADII", "card")

RADII = (0.0, 0.25, 0.5, 0.75, 1.0)  # no scale that is shipped certifies more of a digit

_CARD = """\
# {name}: a model card

Handwritten digits, 8x8 gray, ten classes. A diffusers `UNet2DModel` {channels} denoises in one step; timm's
`{classifier}` classifies what comes out: {mflop:.1f} MFLOP a sample, {megabytes:.1f} MB of weights.

- **Data**: {data}.
  Split `{split}`: 60% to train, 15% to choose thresholds, 25% held out. The figures are of
  the held-out part ({images} images){chosen}.
- **Made by** `{command}`; **measured by** `python -m benchmarks.digits {run} --samples {budget} --bundle {name}`.
- **Runs in** {dtype} where the CPU or GPU has it; measured in {runtime}
  ({machine}).
- **Scales** {sigmas} (L2 noise in units of [0, 1] pixels), **thresholds** {thresholds}, finest scale by {final}.
- **Not for** reading real handwriting: it knows centred 8x8 digits by 13 writers. It shows the service's method.

## The base classifier under noise

Held-out images, {samples} draws a scale ({budget} in whole chunks). The plain classifier is right on {clean:.1%} of
the clean images.

{shares}

## Certificates

alpha = {alpha:g}. A single scale spends a pilot and {samples} draws. `reference` is the protocol of arXiv 2310.16779 at
the bundle's scales with exact bounds: as many at each scale it visits. "The service" is this project's own sampler with
{budget} draws in all, replayed from the same votes: at thresholds of 1/2, the finest scale by threshold, and as
shipped. Certified accuracy at radius r: right, and the radius at least r. ACR: average certified radius, 0 where wrong
or abstained.

{rows}

{verdict}
"""

_CHOSEN = """; which fine-tuning ships
  was chosen by it too (docs/results.md), thresholds and all else were not"""


def card(config: TrainConfig, manifest: Manifest, measured: Mapping[str, Any], rows: Sequence[Curve]) -> str:
    """measured: the figures of `rows`, whose last is the service as shipped."""
    provenance = manifest.provenance
    shares = [[sigma, *(f"{share:.1%}" for share in of.values())] for sigma, of in measured["shares"].items()]
    return _CARD.format(
        name=manifest.name,
        channels=config.unet_channels,
        classifier=config.classifier,
        mflop=measured["mflop_per_sample"],
        megabytes=measured["weights_megabytes"],
        data=provenance["data"],
        split=provenance["split"],
        chosen=_CHOSEN if "finetuned_from" in provenance else ", by which nothing was chosen",
        run=config.name,
        dtype=manifest.dtype,
        runtime=measured["runtime"],
        machine=here(),
        command=provenance["command"],
        images=measured["images"],
        samples=measured["samples"],
        budget=measured["budget"],
        sigmas=listed(manifest.sigmas),
        thresholds=listed(manifest.thresholds),
        final=manifest.final,
        clean=measured["clean_accuracy"],
        alpha=measured["alpha"],
        shares=table(["sigma", "true class has more than half of the draws", "a wrong class", "no class"], shares),
        rows=certificates(rows, RADII),
        verdict=_verdict(rows),
    )


def _verdict(rows: Sequence[Curve]) -> str:
    """How the service compares, in words: also where it loses."""
    ours = rows[-1]
    paper = next(row for row in rows if row.policy == "reference")
    singles = [row for row in rows if row.policy == "single"]
    best, accurate = max(singles, key=lambda row: row.acr), max(singles, key=lambda row: row.accuracy(0.0))
    gain = f"{ours.acr / paper.acr - 1:+.0%}" if paper.acr > 0 else "beyond comparison (0)"
    assert ours.mean_samples is not None and paper.mean_samples is not None
    lines = [
        f"The service's ACR is {gain} against `reference`'s, with {paper.mean_samples / ours.mean_samples:.1f} times "
        "fewer draws.",
        f"Certified accuracy at 0 is {ours.accuracy(0.0):.3f}; the best single scale's ({accurate.name}) is "
        f"{accurate.accuracy(0.0):.3f}.",
    ]
    if best.acr > ours.acr:
        lines.append(
            f"**A single scale has the larger ACR here**: {best.name} reaches {best.acr:.4f} against the service's "
            f"{ours.acr:.4f}, with certified accuracy {best.accuracy(0.0):.3f} at 0 against {ours.accuracy(0.0):.3f}. "
            "Digits are alike in difficulty, so one scale is nearly enough."
        )
    else:
        lines.append(f"The best single scale's ACR ({best.name}) is {best.acr:.4f}, the service's {ours.acr:.4f}.")
    return "\n".join(lines)
