"""Fine-tune a bundle as the paper does (arXiv 2310.16779, section 3.2): `certify train RUN`.

The denoiser is trained through the frozen classifier with one denoising step, at one of the bundle's scales, drawn for
each image, under that scale's own kind of noise; or, as a baseline, the classifier on what the frozen denoiser makes.
It ends by writing a bundle with the start bundle's scales and thresholds. Stopped and started again it goes on from its
last checkpoint, to the same weights as if it had not been stopped: a step's randomness is named by (seed, step,
process).

    accelerate launch -m certify train RUN      # several GPUs; the batch is each process's
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..bundle import Manifest, file_digests, load_manifest, save_manifest, verify
from ..classifier import Classifier
from ..convert import with_graph
from ..denoiser import Denoiser
from ..noises import NoiseKind
from ..write import Networks, save_classifier, whole_folder
from .config import FinetuneConfig
from .data import augmented
from .losses import LOSSES, anti_consistency
from .noisy import kinds_of, noisy
from .stage import CheckpointError, Stage, fields_of, make_accelerator, run_stage

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
    sigmas, kinds = torch.tensor(manifest.sigmas, dtype=torch.float32), kinds_of(manifest)

    def losses_of(running: nn.Module) -> dict[str, Tensor]:
        x, target, sigma = _batch(config, images, labels, sigmas, device, oracle)
        return _losses(config, _with(networks, config, running), kinds, x, target, sigma)

    stage = Stage(
        label="finetune",
        config=config,
        trained=trained,
        losses_of=losses_of,
        path=work / "checkpoint.pt",
        identity={"start bundle": manifest.digest, **fields_of(config)},
        progress=progress,
    )
    run_stage(stage, accelerator)
    return networks.ready()


def write_finetuned(
    config: FinetuneConfig, networks: Networks, start: Path, out: Path, *, command: str | None = None
) -> Manifest:
    """A bundle like `start` with the trained network in its place; written whole or not at all.

    command: what the provenance says made it; None = `certify train` with the run's name and seed. Raises BundleError
    if `out` is there and not an empty folder.
    """
    before = load_manifest(start)
    with whole_folder(out) as folder:
        for name in before.sources:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(start / name, target)
        _save_trained(config, networks.stored_in(before.dtype), start, folder)
        bare = dataclasses.replace(
            before,
            name=config.name,
            version=config.version,
            files=file_digests(folder),
            timesteps=(),  # no graph yet
            figures={},  # the start's are not its own
            provenance={
                **before.provenance,
                "finetuned_from": before.digest,
                "finetuned_by": command or f"certify train {config.name} --seed {config.seed}",
                "finetune_config": dataclasses.asdict(config),
            },
        )
        manifest = with_graph(bare, folder)
        save_manifest(manifest, folder)
    return manifest


def _save_trained(config: FinetuneConfig, networks: Networks, start: Path, folder: Path) -> None:
    """Over the start's own network of that kind."""
    if config.trains == "denoiser":
        networks.denoiser.unet.save_pretrained(str(folder / "denoiser"), safe_serialization=True)
        # diffusers writes where it had loaded the network from into the config; the architecture is the start's.
        shutil.copyfile(start / "denoiser" / "config.json", folder / "denoiser" / "config.json")
    else:
        kept = json.loads((start / "classifier" / "config.json").read_text(encoding="utf-8"))
        save_classifier(networks.classifier, folder / "classifier", kept.get("model_args", {}))


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
    x = augmented(config, images[chosen]).to(device)
    sigma = sigmas[torch.randint(len(sigmas), (config.batch,))].to(device)
    if config.target == "label":
        return x, labels[chosen].to(device), sigma
    with torch.no_grad():
        return x, oracle(x).argmax(dim=1), sigma


def _losses(
    config: FinetuneConfig,
    networks: Networks,
    kinds: Mapping[float, NoiseKind],
    x: Tensor,
    target: Tensor,
    sigma: Tensor,
) -> dict[str, Tensor]:
    """Of one noise for each image, or of two when they are to be held against each other."""
    draws = 2 if config.anti_consistency else 1
    scales = sigma.repeat(draws)
    seen = noisy(x.repeat(draws, 1, 1, 1), scales, kinds)
    # Called as modules, not by method: with several GPUs one of them is wrapped.
    logits = networks.classifier(networks.denoiser(seen, scales)).float()
    first, second = logits[: len(x)], logits[-len(x) :]
    main = LOSSES[config.loss](first, target)
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
