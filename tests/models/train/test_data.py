"""models.train.data: the split stands still, the parts share nothing, pixels are what a PNG file holds."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
from certify.models.train.data import augment, digits_split, load_digits  # noqa: E402

SPLIT_SHA256 = "9e99d0b92dfa506064baf3ff1a71fe0b92cc995e0f3a924853bf6e304243c2e9"  # of the indices, little-endian int64


def test_the_split_is_the_one_of_its_name() -> None:
    """Changing it would let trained-on images into the held-out part of a bundle made before."""
    split = digits_split()
    assert [len(part) for part in split] == [1078, 270, 449]
    everything = np.concatenate(split).astype("<i8")
    assert sorted(everything) == list(range(1797))
    assert hashlib.sha256(everything.tobytes()).hexdigest() == SPLIT_SHA256


def test_every_part_has_every_digit() -> None:
    digits = load_digits()
    for part in digits_split():
        assert np.bincount(digits.labels[part], minlength=10).min() >= 0.06 * len(part)


def test_images_are_their_8_bit_pixels_divided_by_255() -> None:
    digits = load_digits()
    assert digits.pixels.dtype == np.uint8 and digits.pixels.shape == (1797, 8, 8)
    assert digits.images.dtype == np.float32 and digits.images.shape == (1797, 1, 8, 8)
    assert (digits.images[:, 0] == digits.pixels.astype(np.float32) / np.float32(255)).all()
    assert digits.pixels.max() == 255 and set(np.unique(digits.pixels)) <= {round(v * 255 / 16) for v in range(17)}


def test_augmentation_of_nothing_is_nothing_and_stays_in_range_otherwise() -> None:
    images = torch.from_numpy(load_digits().images[:64])
    none = {"degrees": 0.0, "scale": 0.0, "shear": 0.0, "shift_pixels": 0.0}
    assert torch.allclose(augment(images, share=1.0, **none), images, atol=1e-5)
    some = {"degrees": 14.0, "scale": 0.12, "shear": 0.2, "shift_pixels": 0.6}
    assert torch.allclose(augment(images, share=0.0, **some), images, atol=1e-5)
    moved = augment(images, share=1.0, **some)
    assert moved.min() >= 0 and moved.max() <= 1 + 1e-6
    assert (moved - images).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_a_shift_of_whole_pixels_moves_the_image_by_so_many() -> None:
    """A single bright pixel and shifts up to 0.5: its centre of mass moves by at most half a pixel each way."""
    image = torch.zeros(200, 1, 8, 8)
    image[:, 0, 4, 4] = 1.0
    torch.manual_seed(0)
    moved = augment(image, share=1.0, degrees=0.0, scale=0.0, shear=0.0, shift_pixels=0.5)[:, 0]
    columns = torch.arange(8.0)
    centre = (moved.sum(dim=1) * columns).sum(dim=1) / moved.sum(dim=(1, 2))
    assert (centre - 4).abs().max() <= 0.5 + 1e-4
    assert (centre - 4).abs().max() > 0.4


def test_shifts_of_whole_pixels_blur_nothing() -> None:
    """Each picture is its own, moved by up to two pixels each way, black where nothing came."""
    torch.manual_seed(0)
    images = torch.rand(200, 3, 7, 7)
    none = {"degrees": 0.0, "scale": 0.0, "shear": 0.0}
    moved = augment(images, share=1.0, **none, shift_pixels=2.0, whole_pixels=True)
    framed, seen = torch.nn.functional.pad(images, (2, 2, 2, 2)), []
    for image, out in zip(framed, moved, strict=True):
        places = [(y, x) for y in range(5) for x in range(5)]
        seen += [(y, x) for y, x in places if torch.allclose(image[:, y : y + 7, x : x + 7], out, atol=1e-4)]
    assert len(seen) == len(images) and len(set(seen)) == 25
