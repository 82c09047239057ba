"""A classifier and a denoiser for a data set of small colour images, trained apart, and fine-tuned together.

    python -m models.train.separate cifar10_cpu --data DIR     # DIR has train.npz (see models.datasets)

It writes two bundles, WORK/plain and WORK/finetuned, with thresholds of 1/2: `python -m benchmarks.cifar10` goes on
from there. Each stage has its checkpoint in WORK.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import math
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..bundle import Manifest, file_digests, save_manifest
from ..classifier import Classifier
from ..datasets import open_dataset
from ..denoiser import Denoiser
from ..runtime import limit_threads
from ..schedule import Schedule
from .classifier import MEAN, save_classifier
from .config import PairConfig
from .data import as_pixels, augment, decode
from .denoiser import denoising_loss
from .finetune import finetune, write_finetuned
from .joint import Networks
from .log import log
from .stage import make_accelerator, run_stage

__all__ = ("build", "train_pair", "write_pair")

RUNS = ("cifar10", "cifar10_cpu")
SHAPE = (3, 32, 32)


def build(config: PairConfig, classes: int) -> Networks:
    """Fresh networks."""
    import timm
    from diffusers import DDPMScheduler, UNet2DModel

    levels = len(config.unet_channels)
    # Attention where the maps are 8x8: at 32x32 it costs as much as the convolutions.
    kinds = ["AttnDownBlock2D" if config.unet_attention and k == levels - 1 else "DownBlock2D" for k in range(levels)]
    unet = UNet2DModel(
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
    scheduler: DDPMScheduler = _scheduler(config)
    net = timm.create_model(config.classifier, num_classes=classes, **dict(config.classifier_args))
    size = (SHAPE[0], config.classifier_size, config.classifier_size)
    settings = {"input_size": size, "mean": (MEAN,) * 3, "std": (MEAN,) * 3, "tag": "", "license": None}
    net.pretrained_cfg = {**net.pretrained_cfg, **settings}
    schedule = Schedule(scheduler.alphas_cumprod.double().numpy(), "v_prediction")
    return Networks(Denoiser(unet, schedule), Classifier(net, net.pretrained_cfg))


def train_pair(config: PairConfig, images: Tensor, labels: Tensor, classes: int, work: Path) -> Networks:
    """The classifier on clean images, the denoiser on noisy ones. images: uint8 (N, C, H, W)."""
    torch.manual_seed(config.classifier_stage.seed)
    networks = build(config, classes)
    _train_classifier(config, networks.classifier, images, labels, work)
    _train_denoiser(config, networks.denoiser, images, work)
    return Networks(
        networks.denoiser.cpu().eval().requires_grad_(False), networks.classifier.cpu().eval().requires_grad_(False)
    )


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

    identity = _identity("classifier", images, config)
    run_stage("classifier", stage, accelerator, classifier, losses_of, work / "classifier.pt", identity)


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

    identity = _identity("denoiser", images, config)
    run_stage("denoiser", stage, accelerator, denoiser, losses_of, work / "denoiser.pt", identity)


def _varied(config: PairConfig, images: Tensor) -> Tensor:
    return augment(
        as_pixels(images), share=1.0, degrees=0.0, scale=0.0, shear=0.0,
        shift_pixels=config.augment_shift_pixels, flip=True,
    )  # fmt: skip


def _compile_on_gpu(network: nn.Module, device: torch.device) -> None:
    if device.type == "cuda":
        network.compile()  # in place: names in the state dict stay


def _identity(stage: str, images: Tensor, config: PairConfig) -> dict[str, object]:
    """What the stage's weights depend on, and not how they are stored, tuned and judged; as numbers and text."""
    fields = {name: value for name, value in dataclasses.asdict(config).items() if name not in config.NOT_TRAINING}
    facts = {"stage": stage, "images": len(images), **fields}
    return {name: repr(value) if isinstance(value, dict | tuple) else value for name, value in facts.items()}


def _scheduler(config: PairConfig):  # type: ignore[no-untyped-def]  # diffusers has no types
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=config.timesteps,
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_schedule="linear",
        prediction_type="v_prediction",  # its error in x0 stays of one size over the scales, epsilon's grows
    )


def write_pair(
    config: PairConfig, networks: Networks, classes: tuple[str, ...], command: str, folder: Path
) -> Manifest:
    """A bundle with thresholds of 1/2, its weights in the dtype that they run in; written whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for network in networks:
        network.to(getattr(torch, config.dtype))
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        fresh = Path(temporary) / "bundle"
        networks.denoiser.unet.save_pretrained(str(fresh / "denoiser"), safe_serialization=True)
        _scheduler(config).save_pretrained(str(fresh / "scheduler"))
        save_classifier(networks.classifier, fresh / "classifier", dict(config.classifier_args))
        manifest = Manifest(
            name=config.name.removesuffix("_cpu"),
            version=config.version,
            classes=classes,
            input_shape=SHAPE,
            sigmas=config.sigmas,
            thresholds=(0.5,) * len(config.sigmas),
            final="plurality",
            files=file_digests(fresh),
            dtype=config.dtype,
            preprocessing={"color": "rgb", "pixels": "uint8 / 255"},
            provenance={
                "data": "CIFAR-10 (JPEG), 50,000 training images",
                "split": f"the first {config.tune_images} training images held aside for thresholds",
                "command": command,
                "config": dataclasses.asdict(config),
            },
        )
        save_manifest(manifest, fresh)
        fresh.rename(folder)
    return manifest


def run(config: PairConfig, data: Path, work: Path, *, limit: int | None = None) -> None:
    """Train whatever is not there yet: WORK/plain, then WORK/finetuned."""
    whole = open_dataset(str(data / "train.npz"))
    log(f"{config.name}: decoding {limit or len(whole)} images")
    images, labels = decode(whole.part(limit=limit), shape=SHAPE)
    images, labels = images[config.tune_images :], labels[config.tune_images :]
    plain, tuned = work / "plain", work / "finetuned"
    command = f"python -m benchmarks.cifar10 {config.name}"
    if not plain.exists():
        networks = train_pair(config, images, labels, len(whole.classes), work)
        manifest = write_pair(config, networks, whole.classes, command, plain)
        log(f"wrote {plain}: {manifest.digest}")
    if not tuned.exists():
        networks = finetune(config.finetune, images, labels, plain, work)
        manifest = write_finetuned(config.finetune, networks, plain, tuned)
        log(f"wrote {tuned}: {manifest.digest}")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m models.train.separate", description=__doc__)
    parser.add_argument("run", choices=RUNS)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.npz")
    parser.add_argument("--work", type=Path, help="for checkpoints and bundles (default: runs/RUN)")
    parser.add_argument("--limit", type=int, help="only so many images: to try it")
    parser.add_argument("--threads", type=int, default=1, help="of torch on a CPU (default: %(default)s)")
    arguments = parser.parse_args()
    limit_threads()
    torch.set_num_threads(arguments.threads)
    config: PairConfig = importlib.import_module(f"certify.models.train.runs.{arguments.run}").CONFIG
    run(config, arguments.data, arguments.work or Path("runs") / config.name, limit=arguments.limit)


if __name__ == "__main__":
    main()
