"""The denoiser to train: a small diffusers UNet with a DDPM schedule, and its loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ..denoiser import Denoiser
from ..schedule import Schedule, to_signed
from .config import JointConfig

if TYPE_CHECKING:
    from diffusers import DDPMScheduler

__all__ = ("build_denoiser", "build_scheduler", "denoising_loss")


def build_scheduler(config: JointConfig) -> DDPMScheduler:
    """v-prediction: its error in x0 stays of one size over the scales, while epsilon's grows with sigma."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=config.timesteps,
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_schedule="linear",
        prediction_type="v_prediction",
    )


def build_denoiser(config: JointConfig, shape: tuple[int, int, int]) -> Denoiser:
    """A fresh UNet2DModel for images of `shape` (C, H, W)."""
    from diffusers import UNet2DModel

    levels = len(config.unet_channels)
    # Attention where the maps are smallest: at 32x32 it costs as much as the convolutions.
    kinds = ["AttnDownBlock2D" if config.unet_attention and k == levels - 1 else "DownBlock2D" for k in range(levels)]
    channels = shape[0] * config.unet_block**2
    unet = UNet2DModel(
        sample_size=shape[1] // config.unet_block,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=config.unet_layers,
        block_out_channels=config.unet_channels,
        down_block_types=tuple(kinds),
        up_block_types=tuple(kind.replace("Down", "Up") for kind in reversed(kinds)),
        norm_num_groups=config.unet_groups,
        add_attention=config.unet_attention,
    )
    scheduler = build_scheduler(config)
    return Denoiser(unet, Schedule(scheduler.alphas_cumprod.double().numpy(), "v_prediction"), config.unet_block)


def denoising_loss(denoised: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    """Mean squared error of x0 in [-1, 1], weighted so that no scale drowns the others.

    denoised, clean: (N, C, H, W) in [0, 1]; sigma: (N,). The best denoiser's error grows about as sigma^2 until it
    saturates; 1 / (sigma^2 + .05) evens it out without letting the finest scales, where denoising is easy, dominate.
    """
    error = (to_signed(denoised) - to_signed(clean)).square().mean(dim=(1, 2, 3))  # (N,)
    return (error / (sigma.square() + 0.05)).mean()
