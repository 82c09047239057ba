"""Fine-tune a bundle as the paper does (arXiv 2310.16779, section 3.2): `python -m models.train.finetune RUN`.

The denoiser is trained through the frozen classifier with one denoising step, at one of the bundle's scales, drawn for
each image; or, as a baseline, the classifier on what the frozen denoiser makes. It ends by writing a bundle with the
start bundle's scales and thresholds. Stopped and started again it goes on from its last checkpoint, to the same
weights as if it had not been stopped: a step's randomness is named by (seed, step, process).

    accelerate launch -m models.train.finetune RUN      # several GPUs; the batch is each process's
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import pkgutil
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..bundle import Manifest, file_digests, find_bundle, load_manifest, save_manifest, verify
from ..classifier import Classifier
from ..denoiser import Denoiser
from ..runtime import limit_threads
from . import runs
from .classifier import save_classifier
from .config import FinetuneConfig
from .data import SPLIT_NAME, as_pixels, augment, digits_split, load_digits
from .joint import Networks
from .log import log
from .losses import anti_consistency, brier, cross_entropy
from .stage import CheckpointError, make_accelerator, run_stage

__all__ = ("CheckpointError", "finetune", "write_finetuned")


def finetune(
    config: FinetuneConfig, images: Tensor, labels: Tensor, start: Path, work: Path, *, progress: bool = True
) -> Networks:
    """Train from the bundle `start`; checkpoints go to work/checkpoint.pt. Returns networks in evaluation mode.

    images: (N, C, H, W), float32 in [0, 1] or uint8; labels: int64 (N,). Raises BundleError if `start` is altered,
    CheckpointError if `work` has another run's checkpoint.
    """
    manifest = load_manifest(start)
    verify(start, manifest)
    accelerator = make_accelerator(config)
    device = accelerator.device
    networks = _load(start, device)
    trained: nn.Module = getattr(networks, config.trains).requires_grad_(True)
    oracle = _load(start, device).classifier  # the start's own, also when the classifier is what is trained
    sigmas = torch.tensor(manifest.sigmas, dtype=torch.float32)

    def losses_of(running: nn.Module) -> dict[str, Tensor]:
        x, target, sigma = _batch(config, images, labels, sigmas, device, oracle)
        return _losses(config, _with(networks, config, running), x, target, sigma)

    identity = {"start bundle": manifest.digest, **dataclasses.asdict(config)}
    run_stage("finetune", config, accelerator, trained, losses_of, work / "checkpoint.pt", identity, progress=progress)
    return Networks(
        networks.denoiser.cpu().eval().requires_grad_(False), networks.classifier.cpu().eval().requires_grad_(False)
    )


def write_finetuned(
    config: FinetuneConfig, networks: Networks, start: Path, out: Path, *, command: str | None = None
) -> Manifest:
    """A bundle like `start` with the trained network in its place; written whole or not at all.

    command: what the provenance says made it; None = this module's run. Raises FileExistsError if `out` is there and
    not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: expected a folder that is empty or not there yet")
    before = load_manifest(start)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        folder = Path(temporary) / "bundle"
        for name in before.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(start / name, target)
        for network in networks:
            network.to(getattr(torch, before.dtype))
        if config.trains == "denoiser":
            networks.denoiser.unet.save_pretrained(str(folder / "denoiser"), safe_serialization=True)
            # diffusers writes where it had loaded the network from into the config; the architecture is the start's.
            shutil.copyfile(start / "denoiser" / "config.json", folder / "denoiser" / "config.json")
        else:
            kept = json.loads((start / "classifier" / "config.json").read_text(encoding="utf-8"))
            save_classifier(networks.classifier, folder / "classifier", kept.get("model_args", {}))
        manifest = dataclasses.replace(
            before,
            name=config.name,
            version=config.version,
            files=file_digests(folder),
            figures={},  # the start's are not its own
            provenance={
                **before.provenance,
                "finetuned_from": before.digest,
                "finetuned_by": command or f"python -m models.train.finetune {config.name} --seed {config.seed}",
                "finetune_config": dataclasses.asdict(config),
            },
        )
        save_manifest(manifest, folder)
        if out.exists():
            out.rmdir()
        os.rename(folder, out)
    return manifest


def _with(networks: Networks, config: FinetuneConfig, running: nn.Module) -> Networks:
    """`running` is the trained network, perhaps wrapped for several devices."""
    if config.trains == "denoiser":
        return networks._replace(denoiser=cast(Denoiser, running))
    return networks._replace(classifier=cast(Classifier, running))


def _batch(
    config: FinetuneConfig, images: Tensor, labels: Tensor, sigmas: Tensor, device: torch.device, oracle: Classifier
) -> tuple[Tensor, Tensor, Tensor]:
    """Random images (N, C, H, W), targets (N,), and a scale for each image (N,), on the device."""
    chosen = torch.randint(len(images), (config.batch,))
    x = augment(
        as_pixels(images[chosen]),
        share=config.augment_share,
        degrees=config.augment_degrees,
        scale=config.augment_scale,
        shear=config.augment_shear,
        shift_pixels=config.augment_shift_pixels,
        flip=config.augment_flip,
    ).to(device)
    sigma = sigmas[torch.randint(len(sigmas), (config.batch,))].to(device)
    if config.target == "label":
        return x, labels[chosen].to(device), sigma
    with torch.no_grad():
        return x, oracle(x).argmax(dim=1), sigma


def _losses(config: FinetuneConfig, networks: Networks, x: Tensor, target: Tensor, sigma: Tensor) -> dict[str, Tensor]:
    """Of one noise for each image, or of two when they are to be held against each other."""
    draws = 2 if config.anti_consistency else 1
    scales = sigma.repeat(draws)
    noisy = x.repeat(draws, 1, 1, 1)
    noisy = noisy + scales.view(-1, 1, 1, 1) * torch.randn_like(noisy)
    # Called as modules, not by method: with several GPUs one of them is wrapped.
    logits = networks.classifier(networks.denoiser(noisy, scales)).float()
    first, second = logits[: len(x)], logits[-len(x) :]
    main = (brier if config.loss == "brier" else cross_entropy)(first, target)
    anti = anti_consistency(first, second, target) if config.anti_consistency else torch.zeros_like(main)
    right = (first.argmax(dim=1) == target).float().mean()
    return {"total": main + config.anti_consistency * anti, "main": main, "anti": anti, "right": right}


def _load(start: Path, device: torch.device) -> Networks:
    """In evaluation mode, frozen. Batch norm keeps its statistics also in what is trained: a batch of one scale's
    noise more or less must not move them."""
    denoiser, classifier = Denoiser.from_folder(start), Classifier.from_folder(start / "classifier")
    for network in (denoiser, classifier):
        network.to(device, torch.float32).eval().requires_grad_(False)
    return Networks(denoiser, classifier)


def named_runs() -> Iterator[str]:
    """Names of the fine-tuning runs in models/train/runs/."""
    for module in pkgutil.iter_modules(runs.__path__):
        if isinstance(importlib.import_module(f"{runs.__name__}.{module.name}").CONFIG, FinetuneConfig):
            yield module.name


def main() -> None:
    """Parse the command line, train, write the bundle."""
    parser = argparse.ArgumentParser(prog="python -m models.train.finetune", description=__doc__)
    parser.add_argument("run", choices=sorted(named_runs()))
    parser.add_argument("--bundle", help="start from this one (default: the run's)")
    parser.add_argument("--seed", type=int, help="another than the run's")
    parser.add_argument("--work", type=Path, help="for checkpoints (default: runs/RUN-seedN)")
    parser.add_argument("--out", type=Path, help="the bundle's folder (default: WORK/bundle)")
    arguments = parser.parse_args()
    config: FinetuneConfig = importlib.import_module(f"{runs.__name__}.{arguments.run}").CONFIG
    if arguments.bundle is not None:
        config = dataclasses.replace(config, start=arguments.bundle)
    if arguments.seed is not None:
        config = dataclasses.replace(config, seed=arguments.seed)
    work = arguments.work or Path("runs") / f"{config.name}-seed{config.seed}"
    out = arguments.out or work / "bundle"
    start = find_bundle(config.start)
    limit_threads()  # small convolutions run slower on two OpenMP threads than on one
    digits, split = load_digits(), digits_split()
    assert load_manifest(start).provenance.get("split", SPLIT_NAME) == SPLIT_NAME
    images, labels = torch.from_numpy(digits.images[split.train]), torch.from_numpy(digits.labels[split.train])
    networks = finetune(config, images, labels, start, work)
    if int(os.environ.get("RANK", "0")) == 0:
        manifest = write_finetuned(config, networks, start, out)
        log(f"wrote {out}: {manifest.name}, {manifest.digest}")


if __name__ == "__main__":
    main()
