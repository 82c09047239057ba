"""How pictures are laid out and rounded on their way."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from certify.models.remote.declared import Input
from certify.models.remote.pictures import laid_out, png_texts

PICTURES = (np.arange(2 * 3 * 2 * 2, dtype=np.float32) * 12).reshape(2, 3, 2, 2)  # 0 to 276


def declared(dtype: str, layout: str) -> Input:
    plain: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "scale": 1.0 if dtype == "fp32" else 255.0}
    return Input(name="x", dtype=dtype, layout=layout, channels=3, size=(2, 2), **plain)


@pytest.mark.parametrize(
    ("layout", "shape", "first"),
    [("NCHW", (2, 3, 2, 2), [0, 12, 24]), ("NHWC", (2, 2, 2, 3), [0, 48, 96]), ("flat", (2, 12), [0, 12, 24])],
)
@pytest.mark.parametrize("dtype", ["fp32", "uint8"])
def test_values_go_to_their_places(dtype: str, layout: str, shape: tuple[int, ...], first: list[int]) -> None:
    values = laid_out(PICTURES, declared(dtype, layout))
    assert values.shape == shape and values.ravel()[:3].tolist() == first and values.flags.c_contiguous
    assert values.max() == (276 if dtype == "fp32" else 255)
    assert values.dtype == (np.float32 if dtype == "fp32" else np.uint8)


def test_whole_numbers_are_the_nearest_and_halves_the_even_one() -> None:
    values = np.array([-3, 0.5, 1.5, 2.4, 2.6, 254.5, 255.4, 1e9, 7, 7, 7, 7], np.float32).reshape(1, 3, 2, 2)
    assert laid_out(values, declared("uint8", "flat"))[0, :8].tolist() == [0, 0, 2, 2, 3, 254, 255, 255]


def test_a_png_holds_the_same_whole_numbers() -> None:
    texts = png_texts(PICTURES, declared("png", "NHWC"))
    decoded = [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in texts]
    np.testing.assert_array_equal(np.stack(decoded), laid_out(PICTURES, declared("uint8", "NHWC")))
