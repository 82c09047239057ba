"""Bytes of an image file -> the tensor that is certified: (C, H, W) float32 in [0, 1], 8-bit values divided by 255.

Accepted: PNG, JPEG and WebP with one frame; 1- and 8-bit gray, 8-bit RGB, palettes, and an alpha channel that is opaque
everywhere. Of a JPEG that holds a second, dependent picture (MPO) the first is taken. Orientation is applied from EXIF
alone, as browsers do; an EXIF block that cannot be read is ignored in every format. Gray from RGB is ITU-R 601
(Pillow's integer form), RGB from gray repeats it.

Refused, because converting them would be a choice that the certificate does not show: 16-bit and floating-point samples
(what precision?), CMYK and other print spaces (which profile?), transparency (on which background?), animations (which
frame?). Colour profiles and gamma are ignored: the stored numbers are what is certified.

What the decoding would cost is read from the file's structure before a pixel is decoded (image_headers.py). Resizing,
when asked for, happens in 8 bits, in the bundle's colour mode, with Pillow's antialiased bicubic filter, and does not
keep the aspect ratio (`certify dataset --resize center-crop` does, and cuts what stands over). A photograph above
max_pixels that is to be resized is decoded at a reduced scale (JPEG's own).
"""

from __future__ import annotations

import hashlib
import io
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...models.data.pictures import reason_of
from ..errors import RequestError
from .image_headers import PNG_MAGIC, Header, read_header

__all__ = ("Picture", "decode_image", "decode_pixels", "picture_of")

FORMATS = ("PNG", "JPEG", "WEBP")
_ORIENTATION = 0x0112  # the EXIF tag; its values 2 to 8 and what undoes each:
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PLAIN_MODES = ("1", "L", "RGB", "P", "LA", "PA", "RGBA")
_MODE_OF_CHANNELS = {1: "L", 3: "RGB"}
# A JPEG to be resized may have so many times max_pixels: 64 Mi at the default, enough for a 50-megapixel photograph.
_REDUCIBLE = 4
# Pillow's WebP decoder keeps two canvases with alpha beside the picture, 20 bytes a pixel where others take 8.
_WEBP_PART = 2


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is certified. `sha256` is of the tensor's little-endian float32 bytes in (C, H, W) order."""

    tensor: NDArray[np.float32]  # (C, H, W) in [0, 1]
    sha256: bytes  # 32 bytes
    resized: bool
    turned: bool  # by its EXIF orientation


def decode_image(
    data: bytes, shape: tuple[int, int, int], *, resize: bool, max_pixels: int, crop: bool = False
) -> Picture:
    """Decode `data` for a bundle whose input is `shape` (C, H, W). Raises RequestError. Blocks: call it in a thread.

    crop: resize so that the shorter side fits, and take the centre, as torchvision's Resize and CenterCrop do.
    """
    return decode_pixels(read_header(data), shape, resize=resize, max_pixels=max_pixels, crop=crop)


def decode_pixels(
    header: Header, shape: tuple[int, int, int], *, resize: bool, max_pixels: int, crop: bool = False
) -> Picture:
    """The rest of decode_image, for a file whose header has been read."""
    image = _open(header, shape, max_pixels=max_pixels, resize=resize)
    if header.kind == "PNG":
        _check_whole(header.data)
    transpose = _UPRIGHT.get(_orientation(header.exif))
    image = _decode(image) if transpose is None else _decode(image).transpose(transpose)
    image = _to_mode(image, _MODE_OF_CHANNELS[shape[0]])
    height, width = shape[1:]
    resized = image.size != (width, height)
    if resized and not resize:
        raise RequestError(
            "image_wrong_size",
            f"image: expected {width} x {height} pixels, got {image.width} x {image.height}; "
            "set resize to have it resized, the certificate then speaks of the resized image",
            field="image",
            expected_width=width,
            expected_height=height,
        )
    if resized:
        fit = _cropped if crop else _squashed
        image = fit(image, width, height, max_pixels)
    pixels = np.asarray(image, dtype=np.uint8).reshape(height, width, shape[0])
    # float32 division of an integer up to 255 by 255 is correctly rounded: the same tensor on every machine.
    tensor = np.ascontiguousarray(pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255.0))
    return _picture(tensor, resized=resized, turned=transpose is not None)


# Of a grey step: what is left of n / 255 where it was computed in other ways than ours.
_OFF_GRID = 1e-3


def picture_of(pixels: NDArray[np.uint8 | np.float32], shape: tuple[int, int, int]) -> Picture:
    """Pixels that are no file: (C, H, W), or (1, C, H, W); uint8, or float32 of the 8-bit values n / 255.

    Of those a certificate speaks. shape: of the bundle's input, (C, H, W). Raises RequestError.
    """
    if pixels.shape not in (shape, (1, *shape)):
        raise RequestError(
            "image_wrong_size",
            f"image: expected a tensor of shape {list(shape)} (C, H, W), got {list(pixels.shape)[:8]}",
            field="image",
            expected_width=shape[2],
            expected_height=shape[1],
        )
    tensor = np.array(pixels, dtype=np.float32).reshape(shape)  # a copy: what it comes from is a whole body
    if pixels.dtype == np.uint8:
        tensor /= np.float32(255.0)  # the same number as of a file's pixel
    elif not (tensor.min() >= 0.0 and tensor.max() <= 1.0):  # NaN is neither
        raise RequestError("out_of_range", "image: expected pixels in [0, 1], got others", field="image")
    else:
        steps = np.rint(tensor * np.float32(255.0))
        if np.abs(tensor * np.float32(255.0) - steps).max() > _OFF_GRID:
            detail = "image: expected 8-bit pixels, n / 255 with a whole n, got others; round(255 * x) as uint8 is such"
            raise RequestError("out_of_range", detail, field="image")
        tensor = steps / np.float32(255.0)
    return _picture(tensor, resized=False, turned=False)


def _picture(tensor: NDArray[np.float32], *, resized: bool, turned: bool) -> Picture:
    sha256 = hashlib.sha256(tensor.astype("<f4").tobytes()).digest()
    return Picture(tensor=tensor, sha256=sha256, resized=resized, turned=turned)


def _open(header: Header, shape: tuple[int, int, int], *, max_pixels: int, resize: bool) -> Image.Image:
    """The file opened, at a scale at which it is worth decoding; its pixels are not read yet."""
    reduce = resize and header.kind == "JPEG" and header.baseline and header.width * header.height > max_pixels
    most = max_pixels // _WEBP_PART if header.kind == "WEBP" else max_pixels
    _check_pixels(header.width, header.height, most * _REDUCIBLE if reduce else most)
    try:
        image = Image.open(io.BytesIO(header.data), formats=FORMATS)
    # Pillow warns, or refuses, above its own limits; ours may be larger or smaller, but a bomb is a bomb.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise RequestError(
            "image_too_many_pixels", f"image: expected at most {max_pixels} pixels, got more", field="image"
        ) from None
    except Exception as exc:  # Pillow's parsers raise almost anything on hostile bytes
        raise _undecodable(exc) from exc
    if image.size != (header.width, header.height):
        got = f"{image.width} x {image.height}"
        raise _undecodable(ValueError(f"its header says {header.width} x {header.height}, its frame {got}"))
    if getattr(image, "n_frames", 1) != 1:
        raise RequestError("image_multiframe", "image: expected one frame, got an animation", field="image")
    # IHDR's bit depth: Pillow cuts 16-bit RGB to 8 bits in silence.
    sixteen_bit = header.kind == "PNG" and header.data[24:25] == b"\x10"
    if sixteen_bit or image.mode not in _PLAIN_MODES:
        got = "16-bit samples" if sixteen_bit else f"mode {image.mode}"
        raise RequestError(
            "unsupported_format", f"image: expected 8-bit gray, RGB or palette, got {got}", field="image"
        )
    if reduce:
        # Twice the size that is wanted, whichever way it is turned, so that the resizing filter still has pixels to
        # average; and never more than max_pixels.
        side = 2 * max(shape[1:])
        image.draft(None, (min(side, header.width), min(side, header.height)))
        _check_pixels(*image.size, max_pixels)
    return image


def _squashed(image: Image.Image, width: int, height: int, max_pixels: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _cropped(image: Image.Image, width: int, height: int, max_pixels: int) -> Image.Image:
    """Sides and margins are rounded as torchvision.transforms.functional.resize and center_crop round them."""
    if image.width * height <= image.height * width:
        size = (width, max(height, int(width * image.height / image.width)))
    else:
        size = (max(width, int(height * image.width / image.height)), height)
    _check_pixels(*size, max_pixels)  # a picture 16,000 times as long as it is high grows
    left, top = round((size[0] - width) / 2.0), round((size[1] - height) / 2.0)
    return image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))


def _decode(image: Image.Image) -> Image.Image:
    try:
        image.load()
    except Exception as exc:  # truncated data, broken checksums: OSError, SyntaxError, ValueError, struct.error...
        raise _undecodable(exc) from exc
    return image


def _check_whole(png: bytes) -> None:
    """Checksums and end of a PNG's chunks: Pillow looks at none of its pixels', and would certify what a bit that was
    turned on the way made of them."""
    whole, at = memoryview(png), len(PNG_MAGIC)
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if end > len(png):
            break
        if zlib.crc32(whole[at + 4 : end - 4]) != int.from_bytes(png[end - 4 : end], "big"):
            raise _undecodable(ValueError(f"the checksum of its chunk {png[at + 4 : at + 8].decode('ascii')} is wrong"))
        if png[at + 4 : at + 8] == b"IEND":
            return
        at = end
    raise _undecodable(ValueError("it is cut off before its end"))


def _orientation(exif: bytes) -> int:
    """1 to 8; 1, upright, where EXIF says nothing or cannot be read."""
    if not exif:
        return 1
    try:
        read = Image.Exif()
        read.load(exif)
        orientation = read.get(_ORIENTATION, 1)
    except Exception:  # as above: damaged blocks raise almost anything
        return 1
    return orientation if isinstance(orientation, int) else 1


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.has_transparency_data:
        alpha = (image if "A" in image.getbands() else image.convert("RGBA")).getchannel("A")
        if alpha.histogram()[255] < image.width * image.height:
            raise RequestError(
                "unsupported_format", "image: expected an opaque image, got transparent pixels", field="image"
            )
        image.info.pop("transparency", None)  # it is opaque: colours are taken as they are, without a copy with alpha
    # By way of RGB: a palette or alpha image then turns gray by the same formula as any other.
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise RequestError(
            "image_too_many_pixels",
            f"image: expected at most {max_pixels} pixels, got {width} x {height} = {width * height}",
            field="image",
            max_pixels=max_pixels,
        )


def _undecodable(exc: Exception) -> RequestError:
    if isinstance(exc, MemoryError):
        raise exc  # ours, not the image's
    return RequestError("image_undecodable", f"image: cannot be decoded ({reason_of(exc)})", field="image")
