from __future__ import annotations

import hashlib
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certify.service.answering.images import Picture, decode_image
from certify.service.errors import RequestError
from tests import pictures

GRAY, RGB = (1, 8, 8), (3, 8, 8)
MAX_PIXELS = 10_000


def decode(data: bytes, shape: tuple[int, int, int] = GRAY, *, resize: bool = False) -> Picture:
    return decode_image(data, shape, resize=resize, max_pixels=MAX_PIXELS)


def code_of(data: bytes, shape: tuple[int, int, int] = GRAY) -> str:
    with pytest.raises(RequestError) as caught:
        decode(data, shape)
    return caught.value.code


def test_eight_bit_values_are_divided_by_255_and_hashed_as_little_endian_float32() -> None:
    image = pictures.gray()
    picture = decode(pictures.encoded(image))
    expected = (np.asarray(image)[None] / 255.0).astype("<f4")
    assert picture.tensor.dtype == np.float32
    np.testing.assert_array_equal(picture.tensor, expected)
    assert picture.sha256 == hashlib.sha256(expected.tobytes()).digest()
    assert not picture.resized


def test_colour_comes_out_channels_first() -> None:
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    picture = decode(pictures.encoded(Image.fromarray(pixels)), RGB)
    np.testing.assert_array_equal(picture.tensor, (pixels.transpose(2, 0, 1) / 255.0).astype(np.float32))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_formats_give_the_same_tensor(kind: str) -> None:
    image = pictures.gray().convert("RGB")
    picture = decode(pictures.encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})), RGB)
    assert picture.sha256 == decode(pictures.encoded(image), RGB).sha256


def test_jpeg_is_read() -> None:
    assert decode(pictures.encoded(pictures.gray(), "JPEG")).tensor.shape == GRAY


def test_gray_from_rgb_is_itu_r_601() -> None:
    colours = np.zeros((8, 8, 3), dtype=np.uint8)
    colours[0, 0], colours[0, 1], colours[0, 2] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    tensor = decode(pictures.encoded(Image.fromarray(colours))).tensor * 255
    # 0.299, 0.587 and 0.114 of 255, rounded: 76, 150 and 29
    np.testing.assert_allclose(tensor[0, 0, :3], [76, 150, 29], atol=1e-4)


def test_a_palette_turns_gray_by_the_same_formula() -> None:
    image = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    palette = image.quantize(64)
    assert decode(pictures.encoded(palette)).sha256 == decode(pictures.encoded(palette.convert("RGB"))).sha256


def test_gray_for_a_colour_bundle_is_repeated() -> None:
    tensor = decode(pictures.png(), RGB).tensor
    np.testing.assert_array_equal(tensor[0], tensor[1])
    np.testing.assert_array_equal(tensor[0], tensor[2])


def test_one_bit_images_are_black_and_white() -> None:
    tensor = decode(pictures.encoded(pictures.gray().convert("1"))).tensor
    assert set(np.unique(tensor)) == {0.0, 1.0}


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_an_opaque_alpha_channel_changes_nothing(mode: str) -> None:
    assert decode(pictures.encoded(pictures.gray().convert(mode))).sha256 == decode(pictures.png()).sha256


@pytest.mark.parametrize(("mode", "transparency"), [("L", 7), ("RGB", (1, 2, 4)), ("P", 255), ("P", bytes([255] * 9))])
def test_a_transparent_colour_that_no_pixel_has_changes_nothing(mode: str, transparency: object) -> None:
    image = Image.fromarray(np.where(np.asarray(pictures.gray()) < 128, 50, 200).astype(np.uint8))
    image = image.convert("RGB").quantize(16) if mode == "P" else image.convert(mode)
    plain = decode(pictures.encoded(image), RGB)
    assert decode(pictures.encoded(image, transparency=transparency), RGB).sha256 == plain.sha256


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = pictures.gray().convert("RGB")
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the Transpose that turns the upright image into the stored one
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = pictures.encoded(stored, kind, exif=exif, **options)
    assert decode(data, RGB).sha256 == decode(pictures.encoded(upright), RGB).sha256


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("block", [b"no TIFF header here", b"II*\x00\xff\xff\xff\x7f", b"MM\x00*" + bytes(60_000), b""])
def test_exif_that_cannot_be_read_is_ignored_in_every_format(kind: str, block: bytes) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = pictures.encoded(pictures.gray(), kind, exif=b"Exif\x00\x00" + block, **options)
    picture = decode(data)
    assert picture.sha256 == decode(pictures.encoded(pictures.gray(), kind, **options)).sha256
    assert not picture.turned


def test_another_size_is_refused_with_the_expected_one() -> None:
    with pytest.raises(RequestError) as caught:
        decode(pictures.png(size=(9, 8)))
    assert caught.value.code == "image_wrong_size"
    assert caught.value.extra == {"field": "image", "expected_width": 8, "expected_height": 8}
    assert "got 9 x 8" in caught.value.detail


def test_another_size_is_resized_when_asked_for() -> None:
    picture = decode(pictures.png(size=(20, 12)), resize=True)
    assert picture.resized
    assert picture.tensor.shape == GRAY
    assert not decode(pictures.png(), resize=True).resized


def test_orientation_is_applied_before_the_size_is_compared() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = decode_image(
        pictures.encoded(pictures.gray(size=(4, 6)), exif=exif), (1, 4, 6), resize=False, max_pixels=MAX_PIXELS
    )
    assert picture.tensor.shape == (1, 4, 6)


def cmyk() -> bytes:
    return pictures.encoded(pictures.gray().convert("CMYK"), "JPEG")


def sixteen_bit_gray() -> bytes:
    return pictures.encoded(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000))


def transparent(mode: str) -> bytes:
    image = pictures.gray().convert(mode)
    image.putalpha(Image.new("L", image.size, 254))
    return pictures.encoded(image)


def transparent_palette() -> bytes:
    return pictures.encoded(pictures.gray().quantize(16), transparency=3)


def transparent_colour_key() -> bytes:
    image = Image.new("RGB", (8, 8), (1, 2, 3))
    return pictures.encoded(image, transparency=(1, 2, 3))


REFUSED = {
    "nothing": (b"", "unsupported_format"),
    "text": (b"no image at all", "unsupported_format"),
    "gif": (pictures.encoded(pictures.gray(), "GIF"), "unsupported_format"),
    "bmp": (pictures.encoded(pictures.gray(), "BMP"), "unsupported_format"),
    "tiff": (pictures.encoded(pictures.gray(), "TIFF"), "unsupported_format"),
    "16-bit gray": (sixteen_bit_gray(), "unsupported_format"),
    "16-bit RGB": (pictures.png_16_bit_rgb(), "unsupported_format"),
    "CMYK": (cmyk(), "unsupported_format"),
    "transparent gray": (transparent("LA"), "unsupported_format"),
    "transparent RGB": (transparent("RGBA"), "unsupported_format"),
    "transparent palette": (transparent_palette(), "unsupported_format"),
    "transparent colour": (transparent_colour_key(), "unsupported_format"),
    "PNG without its end": (pictures.png()[:-30], "image_undecodable"),
    "PNG without its pixels": (pictures.png()[:20], "image_undecodable"),
    "JPEG without its end": (pictures.encoded(pictures.gray(size=(64, 64)), "JPEG")[:-500], "image_undecodable"),
    "WebP without its end": (pictures.encoded(pictures.gray(), "WEBP")[:-20], "image_undecodable"),
    "bomb": (pictures.png_bomb(20_000, 20_000), "image_too_many_pixels"),
    "just too many pixels": (pictures.png_bomb(101, 100), "image_too_many_pixels"),
    "more pixels than memory": (pictures.png_bomb(2**31 - 1, 2**31 - 1), "image_too_many_pixels"),
    "WebP bomb": (pictures.webp_bomb(), "image_too_many_pixels"),
    # Below Pillow's own limit, so that only our reading of the header can tell before its canvas is allocated.
    "WebP bomb that Pillow would open": (pictures.webp_bomb(8000), "image_too_many_pixels"),
    "animated PNG": (pictures.animation("PNG"), "image_multiframe"),
    "animated WebP": (pictures.animation("WEBP"), "image_multiframe"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_certified_faithfully_is_refused(name: str) -> None:
    data, code = REFUSED[name]
    assert code_of(data) == code


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_byte_gives_an_image_or_a_refusal_and_nothing_else(kind: str) -> None:
    good = pictures.encoded(pictures.gray(), kind)
    refused = 0
    for at in range(len(good)):
        damaged = bytearray(good)
        damaged[at] ^= 0xFF
        try:
            assert decode(bytes(damaged), resize=True).tensor.shape == GRAY
        except RequestError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_of_either_kind_has_its_size_read_from_the_header(lossless: bool) -> None:
    image = pictures.gray(size=(101, 100)).convert("RGB")
    assert code_of(pictures.encoded(image, "WEBP", lossless=lossless), RGB) == "image_too_many_pixels"


def test_a_webp_may_have_half_as_many_pixels() -> None:
    assert decode(pictures.encoded(pictures.gray(size=(100, 50)), "WEBP"), resize=True).resized
    with pytest.raises(RequestError, match="at most 5000 pixels"):
        decode(pictures.encoded(pictures.gray(size=(101, 50)), "WEBP"), resize=True)


CASES = Path(__file__).parents[1] / "cases" / "images"


def case(name: str, *, resize: bool = False) -> Picture:
    shape = (3, 32, 32)
    return decode_image((CASES / name).read_bytes(), shape, resize=resize, max_pixels=16 * 2**20)


@pytest.mark.parametrize("name", ["phone_two_pictures.jpg", "ultrahdr.jpg"])
def test_of_a_jpeg_with_a_dependent_picture_the_first_is_taken(name: str) -> None:
    with Image.open(CASES / name) as image:
        first = np.asarray(image.convert("RGB")).transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(case(name).tensor, first)


def test_two_whole_pictures_in_one_jpeg_are_its_first() -> None:
    assert decode(pictures.animation("MPO")).sha256 == decode(pictures.encoded(pictures.gray(1), "JPEG")).sha256


@pytest.mark.parametrize("name", ["exif_damaged.png", "exif_damaged.jpg", "xmp_orientation_6.jpg"])
def test_only_exif_that_can_be_read_turns_a_picture(name: str) -> None:
    with Image.open(CASES / name) as image:
        stored = np.asarray(image.convert("RGB")).transpose(2, 0, 1) / np.float32(255)
    picture = case(name)
    assert not picture.turned
    np.testing.assert_array_equal(picture.tensor, stored)


def refused(name: str) -> RequestError:
    with pytest.raises(RequestError) as caught:
        case(name, resize=True)
    return caught.value


def test_a_picture_of_many_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", None)  # whoever decodes it fails
    error = refused("progressive_3000_scans.jpg")
    assert error.code == "image_undecodable" and "at most 64 scans" in error.detail


def test_a_thin_picture_is_refused_by_its_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", None)
    error = refused("thin_1x16777216.png")
    assert error.code == "image_too_many_pixels" and error.extra["max_side"] == 16_384


def segments(count: int, marker: int = 0xE5) -> bytes:
    """A good JPEG with so many empty segments."""
    good = pictures.encoded(pictures.gray(), "JPEG")
    return good[:2] + bytes((0xFF, marker, 0, 2)) * count + good[2:]


def chunks(count: int, name: bytes) -> bytes:
    """A good PNG with so many empty chunks after its header."""
    good = pictures.png()
    return good[:33] + (bytes(4) + name + zlib.crc32(name).to_bytes(4, "big")) * count + good[33:]


@pytest.mark.parametrize(
    ("data", "limit"),
    [(segments(3_000), "segments"), (segments(3_000, 0xFE), "segments"), (chunks(20_000, b"tEXt"), "chunks"),
     (chunks(20_000, b"IDAT"), "chunks")],
    ids=["JPEG application data", "JPEG comments", "PNG text", "PNG data"],
)  # fmt: skip
def test_parts_are_counted(data: bytes, limit: str) -> None:
    with pytest.raises(RequestError, match=f"at most .* {limit}"):
        decode(data)


def test_what_a_still_picture_does_not_need_is_not_unpacked() -> None:
    """A text chunk that unpacks to 100 MB, a colour profile likewise: Pillow would begin to."""
    bomb = zlib.compress(bytes(100_000_000))
    good, parts = pictures.png(), b""
    for name, body in ((b"zTXt", b"a\x00\x00" + bomb), (b"iCCP", b"a\x00\x00" + bomb)):
        parts += len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")
    data = good[:33] + parts + good[33:]
    tracemalloc.start()
    assert decode(data).sha256 == decode(good).sha256
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_where_a_file_is_cut_there_is_an_image_or_a_refusal(kind: str) -> None:
    good = pictures.encoded(pictures.gray(), kind)
    for at in range(len(good)):
        try:
            decode(good[:at], resize=True)
        except RequestError:
            continue


PHOTO = """
import resource, sys
from certify.service.answering.images import decode_image
data = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
picture = decode_image(data, (3, 32, 32), resize=True, max_pixels=16 * 2**20)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_a_photograph_of_50_megapixels_is_resized_within_150_mebibytes(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    small = pictures.gray(size=(256, 192)).convert("RGB")
    small.resize((8192, 6144)).save(path, quality=80)
    done = subprocess.run([sys.executable, "-c", PHOTO, str(path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 150
    with Image.open(path) as image:
        exact = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)).transpose(2, 0, 1) / 255
    picture = decode_image(path.read_bytes(), (3, 32, 32), resize=True, max_pixels=16 * 2**20)
    assert picture.resized and np.abs(picture.tensor - exact).max() < 0.02  # at most five grey levels


def test_only_a_jpeg_of_one_pass_may_have_more_pixels_and_only_to_be_resized() -> None:
    big = pictures.gray(size=(150, 100))  # above this file's MAX_PIXELS, below four times as many
    assert decode(pictures.encoded(big, "JPEG"), resize=True).resized
    for data in (pictures.encoded(big, "JPEG", progressive=True), pictures.encoded(big)):
        with pytest.raises(RequestError, match="pixels"):
            decode(data, resize=True)
    assert code_of(pictures.encoded(big, "JPEG")) == "image_too_many_pixels"
