"""A denoiser shaped as OpenAI's (improved- and guided-diffusion), with random weights, in a bundle."""

from __future__ import annotations

from pathlib import Path

import timm
import timm.models
import torch
from diffusers import DDPMScheduler, UNet2DModel

from certify.models.pack import pack


def unet() -> UNet2DModel:
    """Scale and shift after the norm, attention, up and down within blocks, a learned variance."""
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, in_channels=3, out_channels=6, layers_per_block=1, block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        resnet_time_scale_shift="scale_shift", downsample_type="resnet", upsample_type="resnet", norm_num_groups=8,
        attn_norm_num_groups=8, attention_head_dim=16, flip_sin_to_cos=True, freq_shift=0,
    )  # fmt: skip


def write_bundle(folder: Path, *, dtype: str = "float32") -> Path:
    """Packed in `folder`/bundle, from folders that diffusers and timm saved beside it."""
    unet().save_pretrained(str(folder / "denoiser"), safe_serialization=True)
    DDPMScheduler(prediction_type="epsilon").save_pretrained(str(folder / "scheduler"))
    net = timm.create_model("test_resnet", in_chans=3, num_classes=10)
    net.pretrained_cfg = {**net.pretrained_cfg, "input_size": (3, 8, 8), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    timm.models.save_for_hf(net, str(folder / "classifier"), safe_serialization=True)
    pack(
        denoiser=folder / "denoiser", scheduler=folder / "scheduler", classifier=str(folder / "classifier"),
        sigmas=(0.25, 0.5), out=folder / "bundle", dtype=dtype,
    )  # fmt: skip
    return folder / "bundle"
