"""A denoiser of photographs before a classifier that is trained already: `certify train photo --data DIR`.

DIR is a folder of pictures. Two stages, each with its checkpoint in WORK:

    pixels     squared error on small patches
    features   whole crops: the same, and what the frozen classifier makes of them, its maps and its answers, against
               what it makes of the clean crop. No label is needed.

Every loss is over the noise's scale in [-1, 1], 2 sigma, about as which the least error grows.

It ends as WORK/denoiser, a folder with denoiser/ and scheduler/ as diffusers writes them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..classifier import Classifier
from ..denoiser import Denoiser
from ..photo import load_lite0
from ..schedule import Schedule, to_signed
from ..write import whole_folder
from .config import Optimisation, PhotoConfig
from .data import log_uniform
from .photos import Photographs
from .stage import Losses, Stage, by_one_process, fields_of, log, make_accelerator, run_stage

if TYPE_CHECKING:
    from diffusers import DDPMScheduler

__all__ = ("build", "feature_loss", "run", "train")


def run(config: PhotoConfig, data: Path, work: Path, *, limit: int | None = None) -> None:
    """Train whatever is not there yet, and write WORK/denoiser.

    Raises DataError, BundleError where the classifier's package is not installed, and CheckpointError if WORK has
    another run's checkpoints.
    """
    photographs = Photographs(data, limit)
    log(f"{config.name}: {len(photographs)} photographs")
    denoiser = train(config, photographs, load_lite0(), work)

    def write() -> None:
        with whole_folder(work / "denoiser", replaces=lambda folder: (folder / "scheduler").is_dir()) as folder:
            denoiser.to(getattr(torch, config.dtype)).unet.save_pretrained(
                str(folder / "denoiser"), safe_serialization=True
            )
            build_scheduler(config).save_pretrained(str(folder / "scheduler"))
        log(f"wrote {work / 'denoiser'}")

    by_one_process(write)


def build_scheduler(config: PhotoConfig) -> DDPMScheduler:
    """The network answers with the image itself: of 48 channels' noise its narrow maps could not keep track."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=config.timesteps, beta_start=config.beta_start, beta_end=config.beta_end,
        beta_schedule="linear", prediction_type="sample",
    )  # fmt: skip


def build(config: PhotoConfig) -> Denoiser:
    """A fresh network, whose convolutions work on squares of `block` x `block` pixels."""
    from diffusers import UNet2DModel

    levels, channels = len(config.unet_channels), 3 * config.block**2
    unet = UNet2DModel(
        sample_size=config.size // config.block,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=config.unet_layers,
        block_out_channels=config.unet_channels,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        norm_num_groups=config.unet_groups,
        add_attention=False,
    )
    schedule = Schedule(build_scheduler(config).alphas_cumprod.double().numpy(), "sample")
    return Denoiser(unet, schedule, config.block)


def train(config: PhotoConfig, photographs: Photographs, classifier: Classifier, work: Path) -> Denoiser:
    """The denoiser after both stages, in evaluation mode. classifier: frozen, a timm network of blocks."""
    torch.manual_seed(config.pixels_stage.seed)
    denoiser = build(config)
    accelerator = make_accelerator(config.pixels_stage)
    device = accelerator.device
    denoiser.to(device).train()
    classifier.to(device)

    def pixels(running: nn.Module) -> Losses:
        clean, denoised, sigma = _batch(config, photographs, running, config.pixels_stage.batch, config.patch, device)
        return {"total": _pixel_loss(denoised, clean, sigma)}

    def features(running: nn.Module) -> Losses:
        clean, denoised, sigma = _batch(config, photographs, running, config.features_stage.batch, config.size, device)
        plain = _pixel_loss(denoised, clean, sigma)
        maps, answers = ((loss / (2 * sigma)).mean() for loss in feature_loss(classifier, denoised, clean))
        total = plain + config.feature_weight * maps + config.answer_weight * answers
        return {"total": total, "pixels": plain, "maps": maps, "answers": answers}

    for label, stage, losses_of in (
        ("pixels", config.pixels_stage, pixels), ("features", config.features_stage, features),
    ):  # fmt: skip
        log(f"{label}: {stage.steps} steps of {stage.batch}")
        run_stage(_stage(label, config, stage, denoiser, losses_of, photographs, work), accelerator)
    denoiser.cpu().eval().requires_grad_(False)
    return denoiser


def _batch(
    config: PhotoConfig, photographs: Photographs, running: nn.Module, count: int, side: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """(clean (N, 3, side, side), denoised, sigma (N,))."""
    clean = photographs.crops(count, side, config.size).to(device)
    sigma = log_uniform(config.sigma_low, config.sigma_high, count).to(device)
    return clean, running(clean + sigma.view(-1, 1, 1, 1) * torch.randn_like(clean), sigma).float(), sigma


def _pixel_loss(denoised: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    """Squared error in [-1, 1] over the noise's scale there."""
    error = (to_signed(denoised) - to_signed(clean)).square().mean(dim=(1, 2, 3))  # (N,)
    return (error / (2 * sigma)).mean()


def feature_loss(classifier: Classifier, denoised: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """(maps, answers), both (N,): how a timm network of blocks sees the denoised images against the clean ones.

    maps: squared difference after each block, as a share of the clean maps' variance, their mean. answers: the
    Kullback-Leibler divergence of the denoised image's classes from the clean one's, in nats.
    """
    with torch.no_grad():
        *before, wanted = _maps(classifier, clean)
    *after, got = _maps(classifier, denoised)
    shares = [
        (new - old).square().mean(dim=(1, 2, 3)) / old.var().clamp(min=1e-6)
        for new, old in zip(after, before, strict=True)
    ]
    answers = functional.kl_div(
        got.log_softmax(dim=1), wanted.log_softmax(dim=1), reduction="none", log_target=True
    ).sum(dim=1)
    return torch.stack(shares).mean(dim=0), answers


def _maps(classifier: Classifier, pixels: Tensor) -> list[Tensor]:
    """After each of the network's blocks, and the logits at the end."""
    maps: list[Tensor] = []
    blocks = cast(nn.Sequential, classifier.net.blocks)
    handles = [block.register_forward_hook(lambda _m, _i, out: maps.append(out)) for block in blocks]
    try:
        logits = classifier(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return [*maps, logits]


def _stage(
    label: str, config: PhotoConfig, optimisation: Optimisation, trained: Denoiser,
    losses_of: Callable[[nn.Module], Losses], photographs: Photographs, work: Path,
) -> Stage:  # fmt: skip
    """Its identity is what the weights depend on: of the later stage's settings the first knows nothing."""
    later = () if label == "features" else ("features_stage", "feature_weight", "answer_weight")
    return Stage(
        label=label,
        config=optimisation,
        trained=trained,
        losses_of=losses_of,
        path=work / f"{label}.pt",
        identity={"stage": label, "photographs": ", ".join(photographs.names), **fields_of(config, *later)},
    )
