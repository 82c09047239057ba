"""A classifier and a denoiser for a data set of small colour images, trained apart, and fine-tuned together.

    certify train cifar10_cpu --data DIR     # DIR has train.npz (see models.datasets)

It writes two bundles, WORK/plain and WORK/finetuned, with thresholds of 1/2: `python -m benchmarks.cifar10` goes on
from there. Each stage has its checkpoint in WORK.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..bundle import Manifest
from ..classifier import Classifier
from ..datasets import open_dataset
from ..denoiser import Denoiser
from ..errors import DataError
from ..preprocessing import bilinear
from ..schedule import Schedule
from ..write import Networks, write_bundle
from .classifier import MEAN
from .config import Optimisation, PairConfig
from .data import as_pixels, augment, decode
from .denoiser import build_scheduler, denoising_loss
from .finetune import finetune, write_finetuned
from .stage import Losses, Stage, by_one_process, log, make_accelerator, run_stage

if TYPE_CHECKING:
    from diffusers import UNet2DModel

__all__ = ("build", "run", "train_pair", "write_plain")

SHAPE = (3, 32, 32)


def build(config: PairConfig, classes: int) -> Networks:
    """Fresh networks."""
    import timm

    net = timm.create_model(config.classifier, num_classes=classes, **dict(config.classifier_args))
    size = (SHAPE[0], config.classifier_size, config.classifier_size)
    settings = {"input_size": size, "mean": (MEAN,) * 3, "std": (MEAN,) * 3, "tag": "", "license": None}
    net.pretrained_cfg = {**net.pretrained_cfg, **settings}
    schedule = Schedule(build_scheduler(config).alphas_cumprod.double().numpy(), "v_prediction")
    return Networks(Denoiser(_unet(config), schedule), Classifier(net, bilinear(net.pretrained_cfg)))


def _unet(config: PairConfig) -> UNet2DModel:
    from diffusers import UNet2DModel

    levels = len(config.unet_channels)
    # Attention where the maps are 8x8: at 32x32 it costs as much as the convolutions.
    kinds = ["AttnDownBlock2D" if config.unet_attention and k == levels - 1 else "DownBlock2D" for k in range(levels)]
    return UNet2DModel(
        sample_size=SHAPE[1],
        in_channels=SHAPE[0],
        out_channels=SHAPE[0],
        layers_per_block=config.unet_layers,
        block_out_channels=config.unet_channels,
        down_block_types=tuple(kinds),
        up_block_types=tuple(kind.replace("Down", "Up") for kind in reversed(kinds)),
        norm_num_groups=config.unet_groups,
        add_attention=config.unet_attention,
    )


def train_pair(config: PairConfig, images: Tensor, labels: Tensor, classes: int, work: Path) -> Networks:
    """The classifier on clean images, the denoiser on noisy ones. images: uint8 (N, C, H, W)."""
    torch.manual_seed(config.classifier_stage.seed)
    networks = build(config, classes)
    _train_classifier(config, networks.classifier, images, labels, work)
    _train_denoiser(config, networks.denoiser, images, work)
    return networks.ready()


def _train_classifier(config: PairConfig, classifier: Classifier, images: Tensor, labels: Tensor, work: Path) -> None:
    stage = config.classifier_stage
    accelerator = make_accelerator(stage)
    device = accelerator.device
    classifier.to(device).train()
    _compile_on_gpu(classifier.net, device)
    pool, truth = images.to(device), labels.to(device)

    def losses_of(running: nn.Module) -> dict[str, Tensor]:
        chosen = torch.randint(len(pool), (stage.batch,)).to(device)
        logits = running(_varied(config, pool[chosen])).float()
        loss = functional.cross_entropy(logits, truth[chosen], label_smoothing=config.label_smoothing)
        return {"total": loss, "right": (logits.argmax(dim=1) == truth[chosen]).float().mean()}

    run_stage(_stage("classifier", config, stage, classifier, losses_of, images, work), accelerator)


def _train_denoiser(config: PairConfig, denoiser: Denoiser, images: Tensor, work: Path) -> None:
    stage = config.denoiser_stage
    accelerator = make_accelerator(stage)
    device = accelerator.device
    denoiser.to(device).train()
    _compile_on_gpu(denoiser.unet, device)
    pool = images.to(device)
    low, high = math.log(config.sigma_low), math.log(config.sigma_high)

    def losses_of(running: nn.Module) -> dict[str, Tensor]:
        chosen = torch.randint(len(pool), (stage.batch,)).to(device)
        x = _varied(config, pool[chosen])
        sigma = torch.exp(low + (high - low) * torch.rand(stage.batch)).to(device)
        denoised = running(x + sigma.view(-1, 1, 1, 1) * torch.randn_like(x), sigma).float()
        return {"total": denoising_loss(denoised, x, sigma)}

    run_stage(_stage("denoiser", config, stage, denoiser, losses_of, images, work), accelerator)


def _varied(config: PairConfig, images: Tensor) -> Tensor:
    return augment(
        as_pixels(images), share=1.0, degrees=0.0, scale=0.0, shear=0.0,
        shift_pixels=config.augment_shift_pixels, flip=True,
    )  # fmt: skip


def _compile_on_gpu(network: nn.Module, device: torch.device) -> None:
    if device.type == "cuda":
        network.compile()  # in place: names in the state dict stay


def _stage(
    label: str, config: PairConfig, optimisation: Optimisation, trained: nn.Module,
    losses_of: Callable[[nn.Module], Losses], images: Tensor, work: Path,
) -> Stage:  # fmt: skip
    """Its identity is what the weights depend on, and not how they are stored, tuned and judged."""
    fields = {name: value for name, value in dataclasses.asdict(config).items() if name not in config.NOT_TRAINING}
    return Stage(
        label=label,
        config=optimisation,
        trained=trained,
        losses_of=losses_of,
        path=work / f"{label}.pt",
        identity={"stage": label, "images": len(images), **fields},
    )


def write_plain(
    config: PairConfig, networks: Networks, classes: tuple[str, ...], out: Path, *, command: str
) -> Manifest:
    """A bundle with thresholds of 1/2, its weights in the dtype that they run in; an earlier bundle is replaced.

    command: what the provenance says made it.
    """
    return write_bundle(
        networks.stored_in(config.dtype),
        build_scheduler(config),
        out,
        name=config.name.removesuffix("_cpu"),
        version=config.version,
        classes=classes,
        input_shape=SHAPE,
        sigmas=config.sigmas,
        final="plurality",
        dtype=config.dtype,
        provenance={
            "data": "CIFAR-10 (JPEG), 50,000 training images",
            "split": f"the first {config.tune_images} training images held aside for thresholds",
            "command": command,
            "config": dataclasses.asdict(config),
        },
        model_args=dict(config.classifier_args),
    )


def run(config: PairConfig, data: Path, work: Path, *, command: str, limit: int | None = None) -> None:
    """Train whatever is not there yet: WORK/plain, then WORK/finetuned.

    data: a folder with train.npz. command: what the provenance says made them. limit: only so many images, to try it.
    Raises DataError, and CheckpointError if WORK has another run's checkpoints.
    """
    whole = open_dataset(str(data / "train.npz"))
    log(f"{config.name}: decoding {limit or len(whole)} images")
    images, labels = decode(whole.part(limit=limit), shape=SHAPE)
    if len(images) <= config.tune_images:
        raise DataError(
            f"{data / 'train.npz'}: expected more than {config.tune_images} images, which are held aside for "
            f"thresholds, got {len(images)}"
        )
    images, labels = images[config.tune_images :], labels[config.tune_images :]
    plain, tuned = work / "plain", work / "finetuned"

    def write_first() -> None:
        manifest = write_plain(config, networks, whole.classes, plain, command=command)
        log(f"wrote {plain}: {manifest.digest}")

    def write_second() -> None:
        manifest = write_finetuned(config.finetune, networks, plain, tuned, command=command)
        log(f"wrote {tuned}: {manifest.digest}")

    if not plain.exists():
        networks = train_pair(config, images, labels, len(whole.classes), work)
        by_one_process(write_first)
    if not tuned.exists():
        networks = finetune(config.finetune, images, labels, plain, work)
        by_one_process(write_second)
