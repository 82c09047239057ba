"""What a recipe for small pictures is chosen by: short runs of one change each, beside the networks that ship.

    python -m benchmarks.recipes cifar10 --data DIR     # five minutes of an H200; --steps 0: what ships alone

Each learns --steps steps of the run's own batch and is judged on the first test images by --draws draws at each scale.
The noise is plain Gaussian and the networks are torch's, in the run's precision: these figures rank recipes, and are no
certificates of a bundle's. Nothing is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.machine import machine, sentence
from benchmarks.report import progress, table
from certify.models.bundle import find_bundle, load_manifest
from certify.models.classifier import Classifier
from certify.models.datasets import open_part
from certify.models.denoiser import Denoiser
from certify.models.networks import load_networks
from certify.models.train.config import FileConfig
from certify.models.train.data import decode
from certify.models.train.joint import train
from certify.models.train.runs import find_run
from certify.service.core.bounds import clopper_pearson_lower, normal_quantile

__all__ = ("clean_accuracy", "judged", "recipes")

ALPHA = 0.001  # the field's
RADII = (0.0, 0.25)
BATCH = 1000  # draws that go through the networks at once


def recipes(config: FileConfig, steps: int) -> dict[str, FileConfig]:
    """By what each is called: the run itself, but shorter, and one change of it after another."""
    short = dataclasses.replace(config, steps=steps, checkpoint_every=steps, log_every=max(1, steps // 5))
    plain = dataclasses.replace(short, consistency=0.0, batch=2 * config.batch)  # of one draw each: as many draws
    return {
        "as the run, shorter": short,
        "no Muon": dataclasses.replace(short, muon_rate=0.0),
        "no consistency": plain,
        "no consistency, Brier": dataclasses.replace(plain, loss="brier"),
    }


def judged(
    denoiser: Denoiser, classifier: Classifier, config: FileConfig, images: Tensor, labels: Tensor, draws: int
) -> list[str]:
    """Cells: the share right by plurality at each scale; certified at each and RADII; right without noise.

    images: (N, C, H, W), uint8; labels: (N,). Certified: the plurality's bound against 1/2 (Cohen et al. 2019), at
    ALPHA over the number of classes, since the same draws choose the class.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    truth, pixels = labels.numpy(), images.float() / 255
    classes = classifier.to(device)(pixels[:1].to(device)).shape[1]
    denoiser.to(device)
    pluralities, certified = [], []
    for sigma in config.sigmas:
        votes = _votes(denoiser, classifier, pixels, sigma, draws, classes, config.mixed_precision == "bf16")
        top = votes.argmax(axis=1)
        lower = [clopper_pearson_lower(int(row.max()), draws, ALPHA / classes) for row in votes]
        radius = np.array([sigma * normal_quantile(p) if p > 0.5 else -1.0 for p in lower])
        pluralities.append(f"{np.mean(top == truth):.3f}")
        certified += [f"{np.mean((top == truth) & (radius >= r)):.3f}" for r in RADII]
    return [*pluralities, *certified, f"{clean_accuracy(classifier, images, labels):.3f}"]


@torch.inference_mode()
def clean_accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Share of the images, (N, C, H, W) in uint8, that the classifier alone is right on without noise; labels: (N,)."""
    device = next(classifier.parameters()).device
    said = [classifier(part.to(device).float() / 255).argmax(dim=1).cpu() for part in torch.split(images, BATCH)]
    return float(np.mean(torch.cat(said).numpy() == labels.numpy()))


@torch.inference_mode()
def _votes(
    denoiser: Denoiser, classifier: Classifier, pixels: Tensor, sigma: float, draws: int, classes: int, half: bool
) -> NDArray[np.int64]:
    """(N, classes), of noise from a generator of its own."""
    device = next(classifier.parameters()).device
    generator = torch.Generator(device).manual_seed(0)
    constants = [torch.as_tensor(value).to(device) for value in denoiser.constants(np.float64(sigma))]
    votes = np.zeros((len(pixels), classes), dtype=np.int64)
    for at, image in enumerate(pixels.to(device)):
        for count in [BATCH] * (draws // BATCH) + [draws % BATCH] * (draws % BATCH > 0):
            noise = torch.randn((count, *image.shape), generator=generator, device=device)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                logits = classifier(denoiser.denoise_at(image + sigma * noise, *constants))
            votes[at] += np.bincount(logits.argmax(dim=1).cpu().numpy(), minlength=classes)
    return votes


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recipes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="cifar10, cifar10_cpu, fashion or fashion_cpu")
    parser.add_argument("--data", type=Path, required=True, help="folder with a train and a test part")
    parser.add_argument("--steps", type=int, default=500, help="of each short run (default: %(default)s)")
    parser.add_argument("--images", type=int, default=1000, help="test images that judge (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=100, help="at each scale of each (default: %(default)s)")
    parser.add_argument("--batch", type=int, help="images of a step (default: the run's)")
    arguments = parser.parse_args()
    config = find_run(arguments.run)
    if not isinstance(config, FileConfig):
        parser.error(f"run: expected one that learns from a data file, got {arguments.run!r}")
    config = dataclasses.replace(config, batch=arguments.batch or config.batch)
    test = decode(open_part(arguments.data, "test").part(limit=arguments.images), shape=config.shape)
    folder = find_bundle(config.bundle)
    manifest = load_manifest(folder)
    rows = []
    if arguments.steps:
        images, labels = decode(open_part(arguments.data, "train"), shape=config.shape)
        for name, recipe in recipes(config, arguments.steps).items():
            progress(name)
            began = time.monotonic()
            networks = train(
                recipe, images[config.tune_images :], labels[config.tune_images :], len(manifest.classes), progress
            )
            took = (time.monotonic() - began) / recipe.steps
            rows.append([name, f"{1000 * took:.0f}", *judged(*networks, recipe, *test, arguments.draws)])
    shipped = load_networks(folder, manifest).each(lambda network: network.float())
    assert shipped.denoiser is not None and isinstance(shipped.plain, Classifier)
    cells = judged(shipped.denoiser, shipped.plain, config, *test, arguments.draws)
    rows.append([f"{config.bundle}, as it ships", "", *cells])
    scales = [f"sigma {sigma:g}" for sigma in config.sigmas]
    certified = [f"{scale} at {r:g}" for scale in scales for r in RADII]
    about = (
        f"{arguments.steps} steps of {config.batch} images; judged on n = {len(test[1])} test images, N = "
        f"{arguments.draws} at each scale, alpha = {ALPHA:g}; torch, {config.mixed_precision}. {sentence(machine())}"
    )
    columns = table(["", "ms a step, compiling included", *scales, *certified, "clean"], rows)
    sys.stdout.write(f"{about}\n\n{columns}\n")


if __name__ == "__main__":
    main()
