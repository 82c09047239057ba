"""The digits data, its split and its augmentation; other data sets as tensors.

scikit-learn's handwritten digits: 1,797 gray images of 8x8, values 0..16 (UCI Optical Recognition of Handwritten
Digits, the 1,797 of its test part), inside the scikit-learn package; nothing is downloaded.
"""

from __future__ import annotations

import io
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ..datasets import DIGITS_SPLIT, DataSet, digits_parts, digits_pixels
from ..errors import DataError
from .config import Augmentation

__all__ = (
    "SPLIT_NAME",
    "Digits",
    "Split",
    "augment",
    "augmented",
    "decode",
    "digits_split",
    "load_digits",
    "log_uniform",
)

SPLIT_NAME = DIGITS_SPLIT  # named in the manifest


class Digits(NamedTuple):
    """All images and labels, in scikit-learn's order."""

    pixels: NDArray[np.uint8]  # (1797, 8, 8): round(x * 255 / 16), what a PNG file of the image holds
    images: NDArray[np.float32]  # (1797, 1, 8, 8) in [0, 1]: pixels / 255, as the service decodes that file
    labels: NDArray[np.int64]  # (1797,)


class Split(NamedTuple):
    """Indices into `Digits`: `train` is learned from, `tune` chooses scales and thresholds, `held_out` is judged."""

    train: NDArray[np.int64]  # 1,078
    tune: NDArray[np.int64]  # 270
    held_out: NDArray[np.int64]  # 449


def load_digits() -> Digits:
    """The data set as the service sees it."""
    pixels, labels = digits_pixels()
    images = pixels[:, None].astype(np.float32) / np.float32(255)
    return Digits(pixels, images, labels)


def digits_split(count: int = 1797) -> Split:
    """`digits-60-15-25-v1`, as `certify dataset` knows it."""
    return Split(**digits_parts(count))


def augment(
    images: Tensor, *, share: float, degrees: float, scale: float, shear: float, shift_pixels: float,
    flip: bool = False, whole_pixels: bool = False,
) -> Tensor:  # fmt: skip
    """Random affine copies of a `share` of the images, (N, C, H, W) in [0, 1]; the rest stays as it is.

    Each image gets a rotation up to `degrees`, one scale for each axis within 1 +- `scale`, a shear up to `shear` and
    a shift up to `shift_pixels`; all uniform, bilinear, black outside. Kept small: at 8x8 one pixel is an eighth.
    flip: half of all images are mirrored. whole_pixels: shifts are rounded to pixels, so that they blur nothing.
    """
    n, side = len(images), images.shape[-1]
    on = (torch.rand(n) < share).float()

    def uniform(limit: float) -> Tensor:
        return on * (2 * torch.rand(n) - 1) * limit

    def shift() -> Tensor:
        pixels = uniform(shift_pixels)
        return (pixels.round() if whole_pixels else pixels) * 2 / side  # affine_grid's coordinates run from -1 to 1

    turn, sx, sy = uniform(math.radians(degrees)), 1 + uniform(scale), 1 + uniform(scale)
    rows = [
        torch.stack([turn.cos() * sx, -turn.sin() * sx + uniform(shear), shift()], dim=1),
        torch.stack([turn.sin() * sy, turn.cos() * sy, shift()], dim=1),
    ]
    matrix = torch.stack(rows, dim=1)
    if flip:
        matrix[:, 0] *= (1 - 2 * torch.randint(2, (n,)).float()).view(-1, 1)
    matrix = matrix.to(images.device)  # random numbers are the host's: the same on any device
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def augmented(config: Augmentation, images: Tensor) -> Tensor:
    """`augment` as a run says. images: float32 in [0, 1], or uint8, divided by 255 as the service does."""
    return augment(
        images.float() / 255 if images.dtype == torch.uint8 else images,
        share=config.augment_share,
        degrees=config.augment_degrees,
        scale=config.augment_scale,
        shear=config.augment_shear,
        shift_pixels=config.augment_shift_pixels,
        flip=config.augment_flip,
        whole_pixels=config.augment_whole_pixels,
    )


def log_uniform(low: float, high: float, count: int) -> Tensor:
    """(count,) random scales whose logarithms are uniform between those of low and high."""
    return torch.exp(math.log(low) + (math.log(high) - math.log(low)) * torch.rand(count))


def decode(data: DataSet, *, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """(images uint8 (N, C, H, W), labels int64 (N,)) of a data set whose files decode to that shape.

    Raises DataError, naming the image, on another shape.
    """
    mode = {1: "L", 3: "RGB"}[shape[0]]
    images = torch.empty((len(data), *shape), dtype=torch.uint8)
    for position in range(len(data)):
        with Image.open(io.BytesIO(data.read(position))) as file:
            pixels = np.asarray(file.convert(mode)).reshape(file.height, file.width, -1)
        if pixels.shape != (*shape[1:], shape[0]):
            raise DataError(f"{data.name}, image {data.idx[position]}: expected {shape}, got {pixels.shape}")
        images[position] = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    return images, torch.tensor(data.labels, dtype=torch.int64)
