"""Random crops of a folder of photographs: each as large as a classifier would see it, or larger."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from ..data.pictures import is_image, read_file
from ..errors import DataError

__all__ = ("Photographs",)

LARGEST_SIDE = 512  # of a photograph's shorter side in memory: 0.8 MB each


class Photographs:
    """All of a folder's pictures, uint8 in memory."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        """Raises DataError naming a file that is no picture, or a folder without any."""
        files = sorted(file for file in folder.iterdir() if is_image(file.name)) if folder.is_dir() else []
        if not files:
            raise DataError(f"{folder}: expected a folder of pictures, got none")
        self.names = tuple(file.name for file in files[:limit])
        self._pictures = [_read(file) for file in files[:limit]]
        # A large picture has more to show than a small one.
        self._weights = torch.tensor([math.sqrt(p.shape[1] * p.shape[2]) for p in self._pictures])

    def __len__(self) -> int:
        return len(self._pictures)

    def crops(self, count: int, side: int, size: int) -> Tensor:
        """(count, 3, side, side) float32 in [0, 1], from torch's random numbers, half of them mirrored.

        size: of the classifier's image. Each crop is cut from its picture as if that had been made smaller before, its
        shorter side to a log-uniform length between `size` and what it has.
        """
        chosen = torch.multinomial(self._weights, count, replacement=True).tolist()
        return torch.stack([_crop(self._pictures[k], side, size) for k in chosen])


def _read(file: Path) -> Tensor:
    try:
        with Image.open(io.BytesIO(read_file(file))) as image:
            picture = ImageOps.exif_transpose(image).convert("RGB")
    except OSError as error:
        raise DataError(f"{file}: expected a picture: {error}") from error
    scale = LARGEST_SIDE / min(picture.size)
    if scale < 1:
        width, height = (round(length * scale) for length in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy())


def _crop(picture: Tensor, side: int, size: int) -> Tensor:
    height, width = picture.shape[1:]
    shorter = min(height, width)
    low, high = math.log(size), math.log(max(size, shorter))
    resized_to = math.exp(low + (high - low) * torch.rand(()).item())
    region = min(shorter, round(side * shorter / resized_to))  # pixels of the picture that become the crop
    top = int(torch.randint(height - region + 1, ()))
    left = int(torch.randint(width - region + 1, ()))
    part = picture[None, :, top : top + region, left : left + region].float() / 255
    if region != side:
        part = functional.interpolate(part, size=(side, side), mode="bicubic", align_corners=False, antialias=True)
    if torch.rand(()) < 0.5:
        part = part.flip(3)
    return part[0].clamp(0, 1)
