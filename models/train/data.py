"""The digits data, its split and its augmentation.

scikit-learn's handwritten digits: 1,797 gray images of 8x8, values 0..16 (UCI Optical Recognition of Handwritten
Digits, the 1,797 of its test part), inside the scikit-learn package; nothing is downloaded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from service.datasets import DIGITS_SPLIT, digits_parts, digits_pixels

__all__ = ("SPLIT_NAME", "Digits", "Split", "augment", "digits_split", "load_digits")

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


def augment(images: Tensor, *, share: float, degrees: float, scale: float, shear: float, shift_pixels: float) -> Tensor:
    """Random affine copies of a `share` of the images, (N, C, H, W) in [0, 1]; the rest stays as it is.

    Each image gets a rotation up to `degrees`, one scale for each axis within 1 +- `scale`, a shear up to `shear` and
    a shift up to `shift_pixels`; all uniform, bilinear, black outside. Kept small: at 8x8 one pixel is an eighth.
    """
    n, side = len(images), images.shape[-1]
    on = (torch.rand(n) < share).float()

    def uniform(limit: float) -> Tensor:
        return on * (2 * torch.rand(n) - 1) * limit

    turn, sx, sy = uniform(math.radians(degrees)), 1 + uniform(scale), 1 + uniform(scale)
    to_grid = 2 / side  # affine_grid's coordinates run from -1 to 1
    rows = [
        torch.stack([turn.cos() * sx, -turn.sin() * sx + uniform(shear), uniform(shift_pixels * to_grid)], dim=1),
        torch.stack([turn.sin() * sy, turn.cos() * sy, uniform(shift_pixels * to_grid)], dim=1),
    ]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
