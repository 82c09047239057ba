"""One-step denoising at an exact noise scale: `denoise(x, sigma) -> x0`.

A user of this module thinks in [0, 1] pixels and sigma; timesteps and scalings stay inside (models.schedule).
With a = alpha_bar(sigma) the network's answer becomes x0 by its prediction type (Salimans & Ho 2022, section 4):

    epsilon        x0 = (x_t - sqrt(1 - a) eps) / sqrt(a)
    v_prediction   x0 = sqrt(a) x_t - sqrt(1 - a) v
    sample         x0 = the answer itself

A large picture may reach the network as squares of block x block pixels, whose pixels are channels (torch's
pixel_unshuffle: channel c, row i and column j of a square are channel c block^2 + i block + j): the network has
C block^2 input channels, and its answer goes the way back.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from .errors import BundleError
from .schedule import Schedule, quiet_diffusers, signal_and_noise, to_signed, to_unit

if TYPE_CHECKING:
    from diffusers import UNet2DModel

__all__ = ("WEIGHTS", "Denoiser", "channels_and_block")

WEIGHTS = "diffusion_pytorch_model.safetensors"
LONGEST = 400  # characters of diffusers' own words that are handed on


def channels_and_block(in_channels: int) -> tuple[int, int]:
    """(C, block) with C block^2 = in_channels and C = 1 (gray) or 3 (RGB): there is one at most. Raises ValueError."""
    for channels in (1, 3):
        block = math.isqrt(in_channels // channels)
        if block and channels * block * block == in_channels:
            return channels, block
    raise ValueError(f"expected 1 (gray) or 3 (RGB), or one of them times a square, got {in_channels}")


class Denoiser(nn.Module):
    """A diffusers UNet2DModel as a denoiser. In training mode too: the fine-tuning goes through the same code."""

    def __init__(self, unet: UNet2DModel, schedule: Schedule, block: int = 1) -> None:
        """block: side of the squares whose pixels are channels of the network."""
        super().__init__()
        self.unet = unet
        self.schedule = schedule
        self.block = block

    @classmethod
    def from_folder(cls, folder: Path) -> Denoiser:
        """Load `folder`/denoiser and `folder`/scheduler: safetensors only, nothing is fetched."""
        unet = _network(folder / "denoiser")
        _, block = channels_and_block(unet.config.in_channels)
        return cls(unet, Schedule.from_folder(folder / "scheduler"), block)

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The denoised images, (N, C, H, W) in [0, 1].

        x: (N, C, H, W), pixels in [0, 1] plus noise of scale sigma. sigma: one scale, or (N,) one for each image.
        """
        scales = sigma.detach().cpu().double().numpy() if isinstance(sigma, Tensor) else np.float64(sigma)
        return self.denoise_at(x, *(torch.as_tensor(values, device=x.device) for values in self.constants(scales)))

    forward = denoise

    def constants(self, sigma: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
        """What denoise_at takes, each of sigma's shape: timestep, sqrt(alpha_bar), sqrt(1 - alpha_bar)."""
        return self.schedule.timestep(sigma).astype(np.float32), *signal_and_noise(sigma)

    def denoise_at(self, x: Tensor, timestep: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """`denoise` in tensors alone, so that it can be traced and compiled: see `constants`."""
        signal, noise = _column(signal, x), _column(noise, x)
        x_t = signal * to_signed(x)
        answer = self._answer(x_t, timestep)
        match self.schedule.prediction_type:
            case "epsilon":
                signed = (x_t - noise * answer) / signal
            case "v_prediction":
                signed = signal * x_t - noise * answer
            case _:
                signed = answer
        pixels: Tensor = to_unit(signed.clamp(-1.0, 1.0))
        return pixels

    def _answer(self, x_t: Tensor, timestep: Tensor) -> Tensor:
        """The network's, of the shape of x_t: a learned variance, if any, is in the channels after the image's."""
        if self.block == 1:
            answer: Tensor = self.unet(x_t, timestep, return_dict=False)[0]
            return answer[:, : x_t.shape[1]]
        # By hand, and with numbers: of torch's pixel_shuffle a traced graph forgets how many channels are left.
        channels, block = int(x_t.shape[1]), self.block
        height, width = int(x_t.shape[2]) // block, int(x_t.shape[3]) // block
        squares = x_t.reshape(-1, channels, height, block, width, block).permute(0, 1, 3, 5, 2, 4)
        answer = self.unet(squares.reshape(-1, channels * block**2, height, width), timestep, return_dict=False)[0]
        squares = answer[:, : channels * block**2].reshape(-1, channels, block, block, height, width)
        return squares.permute(0, 1, 4, 2, 5, 3).reshape(-1, channels, height * block, width * block)


def _network(folder: Path) -> UNet2DModel:
    """Every weight is the file's: diffusers would draw at random those that it lacks. Raises BundleError."""
    from diffusers import UNet2DModel

    try:
        with quiet_diffusers():
            unet, info = UNet2DModel.from_pretrained(
                str(folder), use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False,
                output_loading_info=True,
            )  # fmt: skip
    except Exception as error:  # whatever a config or a shape makes diffusers raise
        said = " ".join(str(error).split())[:LONGEST]
        raise BundleError(
            f"{folder}: expected config.json and weights of one UNet2DModel, got: {said or type(error).__name__}"
        ) from error
    found = {"no weights for": info["missing_keys"], "weights that are not of it:": info["unexpected_keys"]}
    found["values that are not finite in"] = [
        name for name, tensor in unet.state_dict().items() if not torch.isfinite(tensor).all()
    ]
    if wrong := [f"{title} {', '.join(sorted(names)[:3])} ({len(names)})" for title, names in found.items() if names]:
        raise BundleError(
            f"{folder / WEIGHTS}: expected all weights of the network in config.json, got {'; '.join(wrong)}; save "
            "both together: unet.save_pretrained(DIR)"
        )
    return unet


def _column(values: Tensor, like: Tensor) -> Tensor:
    """() -> () and (N,) -> (N, 1, 1, 1), in the dtype of `like`."""
    values = values.to(like.dtype)
    return values if values.ndim == 0 else values.view(-1, 1, 1, 1)
