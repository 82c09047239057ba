"""A bundle of small pictures, from a data file to a shipped bundle with its tables.

    python -m benchmarks.pictures cifar10 --data DIR      # RUN: a run of models/train/runs that learns from a data file

DIR holds a train and a test part, in a form that `certify dataset` reads. It trains, and fine-tunes if the run says so,
what is not there yet; votes of the first training images, which training held aside, choose the thresholds; votes of
the first test images judge. It writes the bundle's folder under models/bundles with its card, and a part of
docs/results.md. Stopped and started again it goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cards import certificates, figures, here, listed, publish
from benchmarks.recipes import clean_accuracy
from benchmarks.report import table
from benchmarks.tables import CURVES, ROOT, named, write
from benchmarks.votes import adaptive, votes_of
from certify.models.bundle import BUNDLES, Manifest, file_digests, load_manifest, save_manifest
from certify.models.classifier import Classifier
from certify.models.datasets import open_part
from certify.models.networks import load_networks
from certify.models.train.command import train_run
from certify.models.train.config import FileConfig, FileFinetuneConfig
from certify.models.train.data import decode
from certify.models.train.runs import find_run
from certify.models.train.stage import log
from certify.service.research.curves import Curve, curves_of_votes, with_interval
from certify.service.research.figures import draw
from certify.service.research.threshold_choice import NEVER, Choice, best_curve, tune
from certify.service.research.votes_file import VotesFile

RADII = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
GRAINS = 10
_NUMBERS = ("judge_images", "finest_images", "tune_images", "samples", "tune_samples")  # options, of how much is drawn
FIELD = {"cifar10": "cifar10"}  # bundles beside whose figures the field's stand
# What a card says besides: the machine that trained, whose the data are.
NOTES = {
    "fashion": """
- **Trained** in two minutes of one NVIDIA H200. Two cores with AMX make 130 to 160 draws a second of its 1.8 million:
  three and a half hours. `certify train fashion_cpu` is for them; docs/results.md has what it comes to.
- **Data** by Zalando SE (Xiao, Rasul, Vollgraf 2017), MIT. A thousand test images ship: `certify dataset fashion`."""
}


def rows_of(votes: VotesFile, thresholds: tuple[float, ...], finest: VotesFile | None = None) -> list[Curve]:
    """Single scales, the policies at p0 = .5 as published, `best` and the service at the chosen thresholds.

    finest: of more images, at the finest scale alone.
    """
    singles = [c for c in curves_of_votes(votes) if c.policy == "single"]
    if finest is not None:
        more = {(c.sigma, c.final): c for c in curves_of_votes(finest) if c.policy == "single"}
        singles = [_joined(c, more[c.sigma, c.final]) if (c.sigma, c.final) in more else c for c in singles]
    halves = [0.5] * len(votes.sigmas)
    published = [
        named(c, f"{c.name}, p0 = .5")
        for c in curves_of_votes(votes, thresholds=halves, final="threshold", singles=False)
        if c.policy != "max-radius"
    ]
    plain = named(best_curve(votes, halves, "plurality"), "best, p0 = .5, plurality")
    tuned = [
        named(c, f"{c.name}, tuned")
        for c in curves_of_votes(votes, thresholds=thresholds, final="plurality", singles=False)
    ]
    rows = [*singles, *published, plain, *tuned]
    # A look is at least one grain (a GPU's is a whole micro-batch): with few of them no sampler shows what it can.
    if votes.samples >= GRAINS * votes.grain:
        rows.append(adaptive(votes, votes.samples, list(thresholds), "plurality"))
    return rows


def _joined(curve: Curve, more: Curve) -> Curve:
    """One scale's curve over the images of both."""
    assert curve.samples is not None and more.samples is not None
    return dataclasses.replace(
        curve,
        correct=np.concatenate([curve.correct, more.correct]),
        abstained=np.concatenate([curve.abstained, more.abstained]),
        radius=np.concatenate([curve.radius, more.radius]),
        samples=np.concatenate([curve.samples, more.samples]),
    )


def trade(choice: Choice, tuning: VotesFile, judging: VotesFile) -> str:
    """What the choice is between, on the images that choose and on those that judge."""
    coarser = len(tuning.sigmas) - 1
    kinds = {
        "chosen": choice.candidates[choice.chosen],
        "largest ACR, no floor": choice.candidates[choice.unconstrained],
        "all at .5": (0.5,) * (coarser + 1),
        "coarse scales never": (0.5, *(NEVER,) * coarser),
    }
    rows = [
        [name, listed(thresholds), f"{len(votes.idx)} {where}", *(_share(curve, r) for r in (0.0, 0.25, 0.5))]
        + [with_interval(f"{curve.acr:.4f}", curve.acr_interval, 4)]
        for votes, where in ((tuning, "training"), (judging, "test"))
        for name, thresholds in kinds.items()
        for curve in [best_curve(votes, thresholds, "plurality")]
    ]
    return table(["", "thresholds", "images", "0", "0.25", "0.5", "ACR"], rows)


def _share(curve: Curve, radius: float) -> str:
    return with_interval(f"{curve.accuracy(radius):.3f}", curve.accuracy_interval(radius), 3)


def ship(
    config: FileConfig, work: Path, tuning: VotesFile, judging: VotesFile, finest: VotesFile | None, where: str, by: str
) -> None:
    """The bundle with its thresholds, figures and card, and docs/results.md. where: the votes were drawn.

    finest: of more test images, at the finest scale alone. by: the command that measures.
    """
    choice = tune(tuning, target=None, shared=False, final="plurality")
    thresholds = choice.candidates[choice.chosen]
    shipped = retuned(work / "bundle", thresholds, BUNDLES / config.bundle, name=config.bundle)
    rows = rows_of(judging, thresholds, finest)
    chose = (
        f"Thresholds chosen on {len(tuning.idx)} training images held aside, N = {tuning.samples} at each scale, for "
        f"the largest ACR of the choices, out of {len(choice.candidates)}, whose certified accuracy at 0 is at least "
        f"{choice.floor:.3f} there: the finest scale's alone, less .02."
    )
    plain = np.concatenate([each.plain == each.labels for each in (judging, finest) if each is not None])
    more = "" if finest is None else f", and the finest scale alone on {len(finest.idx)} more"
    judged = (
        f"Judged on {len(judging.idx)} test images{more}, N = {judging.samples} at each scale, alpha = "
        f"{float(judging.alpha):g}, in {judging.runtime} ({where}). The classifier alone is right on "
        f"{np.mean(plain):.1%} of these images without noise."
    )
    tables = certificates(rows, RADII, FIELD.get(config.bundle))
    name = f"curves/{config.bundle}.svg"
    write(
        config.bundle,
        f"{chose} {judged}\n\n{trade(choice, tuning, judging)}\n\n{tables}\n\n![certified accuracy]({name})",
    )
    shown = [r for r in rows if r.policy == "best" or (r.policy, r.final) == ("single", "plurality")]
    draw(shown, CURVES / f"{config.bundle}.png", title=f"{config.says.split(',')[0]}, {len(judging.idx)} test images")
    measured = figures(shipped, judging, rows, RADII, {"finetuned": config.finetune is not None})
    text = card(config, load_manifest(shipped), measured, f"{chose} {judged}", tables, by)
    manifest = publish(shipped, measured, text)
    log(f"wrote {shipped.relative_to(ROOT)}: thresholds {listed(thresholds)}, {manifest.digest}")


def retuned(folder: Path, thresholds: tuple[float, ...], out: Path, **more: Any) -> Path:
    """A copy of a bundle with other thresholds, and more of its manifest replaced; `out` if it was there is gone."""
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(folder, out)
    manifest = dataclasses.replace(load_manifest(out), thresholds=thresholds, files=file_digests(out), **more)
    save_manifest(manifest, out)
    return out


def command(run: str, options: Mapping[str, Any]) -> str:
    """What measures anew, as it was asked for: the run's own numbers are other figures."""
    words = [f" --{name.replace('_', '-')} {options[name]}" for name in _NUMBERS if options[name]]
    return f"python -m benchmarks.pictures {run} --data DIR{''.join(words)}"


def card(config: FileConfig, manifest: Manifest, measured: Mapping[str, Any], how: str, tables: str, by: str) -> str:
    """The bundle's README.md. by: the command that measures."""
    side = "x".join(map(str, config.shape[1:]))
    return f"""\
# {manifest.name}: a model card

{config.says}: {side}, {"RGB" if config.shape[0] == 3 else "gray"}, {len(manifest.classes)} classes
({", ".join(manifest.classes)}). A diffusers `UNet2DModel` denoises in one step, a timm `{config.classifier}` classifies
what comes out; both were trained together, end to end: {measured["mflop_per_sample"]:.0f} MFLOP a sample,
{measured["weights_megabytes"]:.1f} MB of weights, {manifest.dtype}.

- **Made by** `{manifest.provenance["command"]} --data DIR`, {config.steps:,} steps of {config.batch} images with two
  draws each{_finetuned(config)}; {manifest.provenance["split"]}.{NOTES.get(manifest.name, "")}
- **Measured by** `{by}`.
- **Scales** {listed(manifest.sigmas)} (L2 noise in units of [0, 1] pixels), **thresholds**
  {listed(manifest.thresholds)}, finest scale by {manifest.final}.
- **Not for** deciding anything about real pictures: it knows {len(manifest.classes)} classes at {side}.

## Certificates

{how} Policies and columns as in docs/results.md.

{tables}
"""


def _finetuned(config: FileConfig) -> str:
    """What follows training, for the card."""
    if config.finetune is None:
        return ""
    run = find_run(config.finetune)
    assert isinstance(run, FileFinetuneConfig)
    return (
        f";\n  then its {run.trains} by `certify train {run.name} --data DIR --bundle runs/{config.name}/bundle`,\n"
        f"  {run.steps:,} steps of {run.batch} images with {'two draws' if run.anti_consistency else 'one draw'} each"
    )


def made(config: FileConfig, data: Path, work: Path, threads: int) -> Path:
    """The folder of WORK, or in it, that has what ships as bundle/; trained now if it is not there."""
    train_run(config.name, data=data, work=work, threads=threads)
    if config.finetune is None:
        return work
    folder = work / config.finetune
    if not (folder / "bundle").exists():
        train_run(config.finetune, data=data, work=folder, bundle=str(work / "bundle"), threads=threads)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pictures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="cifar10, cifar10_cpu, fashion or fashion_cpu")
    parser.add_argument("--data", type=Path, required=True, help="folder with a train and a test part")
    parser.add_argument("--work", type=Path, help="default: runs/RUN")
    parser.add_argument("--threads", type=int, default=2, help="of torch, in training on a CPU (default: %(default)s)")
    parser.add_argument("--tune-images", type=int, help="that choose (default: the run's)")
    parser.add_argument("--judge-images", type=int, help="that judge (default: the run's)")
    parser.add_argument("--finest-images", type=int, default=0, help="that judge the finest scale, those among them")
    parser.add_argument("--tune-samples", type=int, help="at each scale, to choose (default: the run's)")
    parser.add_argument("--samples", type=int, help="at each scale, to judge (default: the run's)")
    parser.add_argument("--where", default=here(), help="the machine that drew the test images' votes (default: this)")
    parser.add_argument("--votes-only", action="store_true", help="draw, and change nothing")
    arguments = parser.parse_args()
    config = find_run(arguments.run)
    if not isinstance(config, FileConfig):
        parser.error(f"run: expected one that learns from a data file, got {arguments.run!r}")
    work, data = (arguments.work or ROOT / "runs" / config.name).resolve(), arguments.data.resolve()
    work = made(config, data, work, arguments.threads)
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    held_aside, test = open_part(data, "train"), open_part(data, "test")
    limit, count = arguments.judge_images or config.judge_images, arguments.samples or config.samples
    finest = None
    if arguments.finest_images > limit:
        finest = votes_of(
            test, work / "bundle", work / f"finest-{count}.npz", count, first=limit, limit=arguments.finest_images,
            sigmas=config.sigmas[:1], device=device,
        )  # fmt: skip
    judging = votes_of(test, work / "bundle", work / f"judge-{count}.npz", count, limit=limit, device=device)
    limit, count = (
        min(arguments.tune_images or config.tune_images, config.tune_images),
        arguments.tune_samples or config.tune_samples,
    )
    tuning = votes_of(held_aside, work / "bundle", work / f"tune-{count}.npz", count, limit=limit, device=device)
    classifier = load_networks(work / "bundle", load_manifest(work / "bundle")).plain
    assert isinstance(classifier, Classifier)  # as training makes it
    right = clean_accuracy(classifier.float().to(device), *decode(test, shape=config.shape))
    log(f"{config.name}: the classifier alone is right on {right:.2%} of {len(test):,} test images without noise")
    if not arguments.votes_only:
        by = command(config.name, vars(arguments))
        ship(config, work, tuning, judging, finest, arguments.where, by)


if __name__ == "__main__":
    main()
