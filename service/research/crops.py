"""A data set's images brought to a bundle's size as the field does: the shorter side to the size, then the centre."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...models.data.pictures import MAX_PIXELS, png
from ...models.datasets import DataSet
from ..answering.images import decode_image

__all__ = ("center_cropped", "marked_as_cropped")


def marked_as_cropped(data: DataSet) -> DataSet:
    """With a digest of its own: cropped images are other images."""
    stored = data.stored or data.read
    return replace(data, stored=lambda position: b"center-crop\n" + stored(position))


def center_cropped(data: DataSet, shape: tuple[int, int, int]) -> DataSet:
    """Images of `shape` (C, H, W) as PNG, with the pixels that are certified; `read` raises RequestError too."""

    def read(position: int) -> bytes:
        picture = decode_image(data.read(position), shape, resize=True, crop=True, max_pixels=MAX_PIXELS)
        pixels = np.round(picture.tensor * 255).astype(np.uint8).transpose(1, 2, 0)
        return png(np.ascontiguousarray(pixels[:, :, 0] if shape[0] == 1 else pixels))

    return replace(data, read=read)
