"""The model card, written from the figures in the manifest: no number in it is typed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from certify.models.bundle import Manifest
from certify.models.train.config import TrainConfig
from certify.models.train.protocols import RADII

__all__ = ("write_card",)

_CARD = """\
# {name}: a model card

Handwritten digits, 8x8 gray, ten classes. A diffusers `UNet2DModel` {channels} denoises in one step; timm's
`{classifier}` classifies what comes out: {mflop:.1f} MFLOP a sample, {megabytes:.1f} MB of weights.

- **Data**: {data}.
  Split `{split}`: 60% to train, 15% to choose thresholds, 25% held out. The figures are of
  the held-out part ({images} images){chosen}.
- **Made by** `{command}`; **measured by** `python -m benchmarks.digits {run} --samples {samples} --bundle {name}`.
- **Runs in** {dtype} where the CPU or GPU has it; measured in {ran}.
- **Scales** {sigmas} (L2 noise in units of [0, 1] pixels), **thresholds** {thresholds}, finest scale by {final}.
- **Not for** reading real handwriting: it knows centred 8x8 digits by 13 writers. It shows the service's method.

## The base classifier under noise

Held-out images, {samples} draws a scale. The plain classifier is right on {clean:.1%} of the clean images.

| sigma | true class has more than half of the draws | a wrong class has |
| --- | --- | --- |
{shares}

## Certificates

alpha = {alpha}. A single scale spends {samples} draws (and 100 to select). "Reference" is the protocol of
arXiv 2310.16779 at the bundle's scales with exact bounds: up to {samples} draws at each scale it visits. "Best of
paths, untuned" and the cascade are this project's state machine with {samples} draws in all, at thresholds of 1/2 and
at the bundle's own. Certified accuracy at radius r: right, and the radius at least r. ACR: average certified radius,
0 where wrong or abstained.

| protocol | {radii} | ACR | abstained | wrong | mean draws |
| --- | {dashes} | --- | --- | --- | --- |
{rows}

{verdict}
"""

_CHOSEN = """; which fine-tuning ships
  was chosen by it too (docs/results.md), thresholds and all else were not"""


def write_card(config: TrainConfig, manifest: Manifest, folder: Path) -> None:
    """Write folder/README.md from the manifest's figures and provenance."""
    measured, provenance = manifest.figures, manifest.provenance
    text = _CARD.format(
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
        ran=measured["runtime"],
        command=provenance["command"],
        images=measured["images"],
        samples=f"{measured['samples']}",
        sigmas=", ".join(f"{s:g}" for s in manifest.sigmas),
        thresholds=", ".join(f"{t:g}" for t in manifest.thresholds),
        final=manifest.final,
        clean=measured["clean_accuracy"],
        alpha=measured["alpha"],
        shares="\n".join(
            f"| {sigma} | {share['true_class']:.1%} | {share['wrong_class']:.1%} |"
            for sigma, share in measured["shares"].items()
        ),
        radii=" | ".join(f"{r:g}" for r in RADII),
        dashes=" | ".join("---" for _ in RADII),
        rows="\n".join(_row(_title(key), row) for key, row in measured["rows"].items()),
        verdict=_verdict(measured["rows"]),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _title(key: str) -> str:
    titles = {
        "reference": "reference",
        "untuned": "best of paths, untuned",
        "cascade": "**the cascade, as shipped**",
    }
    if key.startswith("single"):
        _, sigma, rule = key.split()
        return f"sigma {sigma} alone, {'threshold 1/2' if rule == 'threshold' else rule}"
    if key.startswith("no denoiser"):
        return f"no denoiser, sigma {key.split()[-1]} alone, plurality"
    return titles[key]


def _row(title: str, row: dict[str, Any]) -> str:
    accuracy = " | ".join(f"{value:.3f}" for value in row["accuracy"].values())
    rest = f"{row['acr']:.4f} | {row['abstained']:.3f} | {row['wrong']:.3f} | {row['draws']:.0f}"
    return f"| {title} | {accuracy} | {rest} |"


def _verdict(rows: dict[str, dict[str, Any]]) -> str:
    """How the cascade compares, in words: also where it loses."""
    ours, paper = rows["cascade"], rows["reference"]
    singles = {key: row for key, row in rows.items() if key.startswith("single")}
    by_radius = max(singles, key=lambda key: singles[key]["acr"])
    by_accuracy = max(singles, key=lambda key: singles[key]["accuracy"]["0"])
    best, accurate = singles[by_radius], singles[by_accuracy]
    gain = f"{ours['acr'] / paper['acr'] - 1:+.0%}" if paper["acr"] > 0 else "beyond comparison (0)"
    fewer = paper["draws"] / ours["draws"]
    lines = [
        f"The cascade's ACR is {gain} against the reference's, with {fewer:.1f} times fewer draws.",
        f"Certified accuracy at 0 is {ours['accuracy']['0']:.3f}; the best single scale's "
        f"({_title(by_accuracy)}) is {accurate['accuracy']['0']:.3f}.",
    ]
    if best["acr"] > ours["acr"]:
        lines.append(
            f"**A single scale has the larger ACR here**: {_title(by_radius)} reaches {best['acr']:.4f} against the "
            f"cascade's {ours['acr']:.4f}, with certified accuracy {best['accuracy']['0']:.3f} at 0 against "
            f"{ours['accuracy']['0']:.3f}. Digits are alike in difficulty, so one scale is nearly enough."
        )
    else:
        lines.append(
            f"The best single scale's ACR ({_title(by_radius)}) is {best['acr']:.4f}, the cascade's {ours['acr']:.4f}."
        )
    return "\n".join(lines)
