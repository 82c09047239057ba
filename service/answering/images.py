"""Bytes of an image file -> the tensor that is certified: (C, H, W) float32 in [0, 1], 8-bit values divided by 255.

Accepted: PNG, JPEG and WebP with one frame; 1- and 8-bit gray, 8-bit RGB, palettes, and an alpha channel that is opaque
everywhere. EXIF orientation is applied. Gray from RGB is ITU-R 601 (Pillow's integer form), RGB from gray repeats it.

Refused, because converting them would be a choice that the certificate does not show: 16-bit and floating-point samples
(what precision?), CMYK and other print spaces (which profile?), transparency (on which background?), animations and
multi-picture files (which frame?). Colour profiles and gamma are ignored: the stored numbers are what is certified.

Size limits are read from the header, before a pixel is decoded. Resizing, when asked for, happens in 8 bits, in the
bundle's colour mode, with Pillow's antialiased bicubic filter, and does not keep the aspect ratio.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import RequestError

__all__ = ("Picture", "decode_image")

FORMATS = ("PNG", "JPEG", "WEBP")
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
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


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is certified. `sha256` is of the tensor's little-endian float32 bytes in (C, H, W) order."""

    tensor: NDArray[np.float32]  # (C, H, W) in [0, 1]
    sha256: bytes  # 32 bytes
    resized: bool


def decode_image(data: bytes, shape: tuple[int, int, int], *, resize: bool, max_pixels: int) -> Picture:
    """Decode `data` for a bundle whose input is `shape` (C, H, W). Raises RequestError. Blocks: call it in a thread."""
    mode = _MODE_OF_CHANNELS[shape[0]]
    image = _to_mode(_upright(_decode(_open(data, max_pixels))), mode)
    height, width = shape[1:]
    resized = image.size != (width, height)
    if resized and not resize:
        raise RequestError(
            "image_wrong_size",
            f"image: expected {width} x {height} pixels, got {image.width} x {image.height}; "
            "set resize to have it resized, the certificate then speaks of the resized image",
            expected_width=width,
            expected_height=height,
        )
    if resized:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image, dtype=np.uint8).reshape(height, width, shape[0])
    # float32 division of an integer up to 255 by 255 is correctly rounded: the same tensor on every machine.
    tensor = np.ascontiguousarray(pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255.0))
    return Picture(tensor=tensor, sha256=hashlib.sha256(tensor.astype("<f4").tobytes()).digest(), resized=resized)


def _open(data: bytes, max_pixels: int) -> Image.Image:
    # Pillow allocates a WebP's whole canvas while opening it, so its size is read here first.
    if (canvas := _webp_size(data)) is not None:
        _check_pixels(*canvas, max_pixels)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        if data.startswith(_MAGIC):
            raise RequestError("image_undecodable", "image: begins like PNG, JPEG or WebP, but is damaged") from None
        raise RequestError("unsupported_format", "image: expected PNG, JPEG or WebP, got other bytes") from None
    # Pillow warns, or refuses, above its own limits; ours may be larger or smaller, but a bomb is a bomb.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise RequestError("image_too_many_pixels", f"image: expected at most {max_pixels} pixels, got more") from None
    except Exception as exc:  # Pillow's parsers raise almost anything on hostile bytes
        raise _undecodable(exc) from exc
    _check_pixels(*image.size, max_pixels)
    if getattr(image, "n_frames", 1) != 1:
        raise RequestError("image_multiframe", "image: expected one frame, got an animation or several pictures")
    # IHDR's bit depth: Pillow cuts 16-bit RGB to 8 bits in silence.
    sixteen_bit = image.format == "PNG" and data[24:25] == b"\x10"
    if sixteen_bit or image.mode not in _PLAIN_MODES:
        got = "16-bit samples" if sixteen_bit else f"mode {image.mode}"
        raise RequestError("unsupported_format", f"image: expected 8-bit gray, RGB or palette, got {got}")
    return image


def _decode(image: Image.Image) -> Image.Image:
    try:
        image.load()
    except Exception as exc:  # truncated data, broken checksums: OSError, SyntaxError, ValueError, struct.error...
        raise _undecodable(exc) from exc
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception as exc:  # as above; and a guess at the orientation would certify another image
        raise _undecodable(exc) from exc
    transpose = _UPRIGHT.get(orientation)
    return image if transpose is None else image.transpose(transpose)


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").histogram()[255] < image.width * image.height:
            raise RequestError("unsupported_format", "image: expected an opaque image, got transparent pixels")
    # By way of RGB: a palette or alpha image then turns gray by the same formula as any other.
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise RequestError(
            "image_too_many_pixels",
            f"image: expected at most {max_pixels} pixels, got {width} x {height} = {width * height}",
            max_pixels=max_pixels,
        )


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP from its first chunk, https://developers.google.com/speed/webp/docs/riff_container."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    match data[12:16]:
        case b"VP8X":  # 24-bit canvas width - 1 and height - 1
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        case b"VP8L":  # 14 bits each, less 1, after the signature byte
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":  # 14 bits each, after the frame tag and start code (RFC 6386, section 9.1)
            return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


def _undecodable(exc: Exception) -> RequestError:
    if isinstance(exc, MemoryError):
        raise exc  # ours, not the image's
    return RequestError("image_undecodable", f"image: cannot be decoded ({type(exc).__name__}: {str(exc)[:200]})")
