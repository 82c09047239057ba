"""service.answering.images: pixels that are no file."""

from __future__ import annotations

import numpy as np
import pytest

from certify.service.answering.images import decode_image, picture_of
from certify.service.errors import RequestError
from tests import pictures


def test_a_tensor_is_certified_as_it_is_if_its_pixels_are_those_of_a_file() -> None:
    file = decode_image(pictures.png(3), (1, 8, 8), resize=False, max_pixels=64)
    pixels = np.asarray(pictures.gray(3))[None]
    for tensor in (pixels, pixels[None], file.tensor, file.tensor[None]):
        picture = picture_of(tensor, (1, 8, 8))
        assert picture.sha256 == file.sha256 and picture.tensor.dtype == np.float32
        assert np.array_equal(picture.tensor, file.tensor) and not np.shares_memory(picture.tensor, tensor)
    inexact = (pixels * np.float32(1 / 255)).astype(np.float32)  # an ulp off here and there
    assert picture_of(inexact, (1, 8, 8)).sha256 == file.sha256
    with pytest.raises(RequestError, match="expected 8-bit pixels, n / 255 with a whole n"):
        picture_of(file.tensor / 2 + np.float32(1e-4), (1, 8, 8))


@pytest.mark.parametrize("value", [-1e-6, 1.0001, np.nan, np.inf, -np.inf])
def test_a_tensor_outside_zero_to_one_is_refused(value: float) -> None:
    tensor = np.full((1, 8, 8), 0.5, dtype=np.float32)
    tensor[0, 3, 4] = value
    with pytest.raises(RequestError, match=r"image: expected pixels in \[0, 1\]") as caught:
        picture_of(tensor, (1, 8, 8))
    assert (caught.value.code, caught.value.extra["field"]) == ("out_of_range", "image")


@pytest.mark.parametrize("shape", [(8, 8), (1, 64), (2, 1, 8, 8), (8, 8, 1), (1, 8, 9)])
def test_a_tensor_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match=r"image: expected a tensor of shape \[1, 8, 8\]") as caught:
        picture_of(np.zeros(shape, dtype=np.uint8), (1, 8, 8))
    assert caught.value.code == "image_wrong_size"
