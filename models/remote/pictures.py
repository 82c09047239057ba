"""Pictures as they are sent: rounded and laid out as the endpoint declares."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .declared import WHOLE, Input

__all__ = ("laid_out", "png_texts")


def laid_out(pictures: NDArray[np.float32], declared: Input) -> NDArray[Any]:
    """float32 or uint8, (N, C, H, W), (N, H, W, C) or (N, C * H * W), from float32 (N, C, H, W).

    Whole numbers are rounded to the nearest, halves to the even one, and cut at 0 and 255: noise goes beyond.
    """
    values: NDArray[Any] = pictures
    if declared.dtype in WHOLE:
        values = np.clip(np.rint(pictures), 0, 255).astype(np.uint8)
    match declared.layout:
        case "NHWC":
            values = values.transpose(0, 2, 3, 1)
        case "flat":
            values = values.reshape(len(values), -1)
    return np.ascontiguousarray(values)


def png_texts(pictures: NDArray[np.float32], declared: Input) -> list[str]:
    """Each picture as a PNG (8 bits, gray or RGB) in base64. The layout does not matter: PNG has its own."""
    from PIL import Image

    texts = []
    for values in np.clip(np.rint(pictures), 0, 255).astype(np.uint8):
        image = Image.fromarray(
            values[0] if declared.channels == 1 else np.ascontiguousarray(values.transpose(1, 2, 0))
        )
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=1)  # noise hardly compresses, whatever time is spent on it
        texts.append(base64.b64encode(file.getvalue()).decode())
    return texts
