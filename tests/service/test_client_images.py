"""Every form in which a caller may have an image comes to the same pixels, or is refused in words."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from certify.service.answering.images import decode_image
from certify.service.client.pictures import file_of
from certify.service.errors import RequestError

RANDOM = np.random.default_rng(0)
GRAY = RANDOM.integers(0, 256, (8, 8), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (8, 8, 3), dtype=np.uint8)


def tensor(file: bytes, channels: int) -> Any:
    """As the service reads it."""
    return decode_image(file, (channels, 8, 8), resize=False, max_pixels=64).tensor


def png(pixels: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


FORMS = {
    "uint8": GRAY,
    "one channel last": GRAY[:, :, None],
    "one channel first": GRAY[None],
    "int64": GRAY.astype(np.int64),
    "float32": GRAY.astype(np.float32) / np.float32(255),
    "float64": GRAY / 255,
    "after some arithmetic": (GRAY.astype(np.float32) / np.float32(255) * 2 - 1) / 2 + np.float32(0.5),
    "not contiguous": np.asfortranarray(GRAY),
    "PIL": Image.fromarray(GRAY),
    "PIL opened": Image.open(io.BytesIO(png(GRAY))),
    "PIL in RGB": Image.fromarray(GRAY).convert("RGB"),
    "bytes": png(GRAY),
}
COLOURS = {
    "uint8": COLOUR,
    "channels first": COLOUR.transpose(2, 0, 1),
    "float32": COLOUR.astype(np.float32) / np.float32(255),
    "opaque": np.concatenate([COLOUR, np.full((8, 8, 1), 255, np.uint8)], axis=2),
    "PIL": Image.fromarray(COLOUR),
    "PIL opaque": Image.fromarray(COLOUR).convert("RGBA"),
}


@pytest.mark.parametrize("form", FORMS)
def test_gray_in_any_form_is_the_same_tensor(form: str) -> None:
    assert np.array_equal(tensor(file_of(FORMS[form]), 1), GRAY[None] / np.float32(255))


@pytest.mark.parametrize("form", COLOURS)
def test_colour_in_any_form_is_the_same_tensor(form: str) -> None:
    assert np.array_equal(tensor(file_of(COLOURS[form]), 3), COLOUR.transpose(2, 0, 1) / np.float32(255))


def test_a_path_in_either_spelling_is_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    path.write_bytes(png(GRAY))
    assert file_of(path) == file_of(str(path)) == path.read_bytes()


def test_another_librarys_array_is_read_by_numpy() -> None:
    torch = pytest.importorskip("torch", reason="pip install 'certify[torch]'")
    assert np.array_equal(tensor(file_of(torch.from_numpy(GRAY)), 1), tensor(png(GRAY), 1))
    with pytest.raises(RequestError, match="an array that numpy can read, got Tensor"):
        file_of(torch.zeros(8, 8, requires_grad=True))


@pytest.mark.parametrize("turned", [3, 6, 8])
def test_a_picture_that_was_opened_is_turned_as_its_file_is(turned: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    file = png(GRAY, exif=exif)
    opened = Image.open(io.BytesIO(file))
    assert np.array_equal(tensor(file_of(opened), 1), tensor(file, 1))
    assert not np.array_equal(tensor(file, 1)[0], GRAY / np.float32(255))


REFUSED: dict[str, tuple[Any, str]] = {
    "between two grey steps": (np.full((8, 8), 0.5), r"floats k/255.*got 0\.5; round"),
    "floats of 0 to 255": (GRAY.astype(np.float32), "floats in .0, 1., got .* if they are 0 to 255"),
    "below 0": (-GRAY.astype(np.int16), "whole numbers of 0 to 255, got -"),
    "above 255": (GRAY.astype(np.int16) + 200, "whole numbers of 0 to 255"),
    "not a number": (np.full((8, 8), np.nan), "floats in .0, 1., got nan"),
    "bool": (GRAY > 100, "got bool"),
    "complex": (GRAY * 1j, "got complex128"),
    "nothing": (np.zeros((0, 8), np.uint8), "an array with pixels in it"),
    "a batch": (GRAY[None, None], r"got \(1, 1, 8, 8\)"),
    "two channels": (np.zeros((8, 8, 2), np.uint8), "of 1 or 3 channels"),
    "either way round": (np.zeros((3, 8, 3), np.uint8), "could be either"),
    "CMYK": (Image.new("CMYK", (8, 8)), "got CMYK"),
    "floats in PIL": (Image.new("F", (8, 8)), "got F"),
    "cut off": (Image.open(io.BytesIO(png(np.repeat(np.repeat(COLOUR, 40, 0), 40, 1))[:1000])), "truncated"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_of_whole_steps_is_refused_in_words(name: str) -> None:
    image, words = REFUSED[name]
    with pytest.raises(RequestError, match=f"image: expected .*{words}") as refused:
        file_of(image)
    assert (refused.value.code, refused.value.field) == ("out_of_range", "image")
