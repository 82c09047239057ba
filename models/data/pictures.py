"""Files and pixels -> what the service decodes: PNG, JPEG or WebP. Others become PNG, without loss or not at all.

What would be a choice that a certificate does not show is refused (docs/protocol.md, 8).
"""

from __future__ import annotations

import functools
import io
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import DataError

__all__ = ("MAX_PIXELS", "as_served", "image_suffixes", "is_image", "png", "read_file", "reason_of")

# torchvision's, which every installation of Pillow reads; Pillow's own list names others beside them.
_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# Pillow knows these and cannot decode them by itself.
_WITHOUT_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
_PLAIN_MODES = ("1", "L", "RGB", "P", "LA", "PA", "RGBA")
# A photograph of 64 megapixels takes 256 MB to decode; a file of 256 MiB holds one in any format.
MAX_BYTES, MAX_PIXELS = 2**28, 2**26
_BITS_PER_SAMPLE = 258  # TIFF's tag
_ADDRESS = re.compile(r" <[^<>]* object at 0x[0-9a-f]+>")


@functools.cache
def image_suffixes() -> tuple[str, ...]:
    """What a file's name may end in, in lower case: torchvision's nine, and whatever else Pillow decodes here."""
    Image.init()
    known = Image.registered_extensions().items()
    decoded = {suffix for suffix, kind in known if kind in Image.OPEN and kind not in _WITHOUT_PIXELS}
    return (*_SUFFIXES, *sorted(decoded - set(_SUFFIXES)))


def is_image(name: str) -> bool:
    return name.lower().endswith(image_suffixes())


def read_file(path: Path) -> bytes:
    """Raises DataError, naming the file; a FIFO or a device is no file, and waits for nobody here."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: expected a file, got something else")
        if status.st_size > MAX_BYTES:
            raise DataError(f"{path}: expected at most {MAX_BYTES} bytes, got {status.st_size}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def png(pixels: NDArray[np.uint8]) -> bytes:
    """pixels: (H, W) gray or (H, W, 3) RGB."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def as_served(data: bytes, where: object) -> bytes:
    """The file itself if the service decodes its format, or the same pixels, upright, as PNG. Raises DataError."""
    if data.startswith((b"\x89PNG", b"\xff\xd8\xff")) or data[:4] + data[8:12] == b"RIFFWEBP":
        return data
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check(image, where)
            buffer = io.BytesIO()
            ImageOps.exif_transpose(image).save(buffer, "PNG", exif=b"")
            return buffer.getvalue()
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Pillow's parsers raise almost anything on hostile bytes
        raise DataError(f"{where}: expected an image that Pillow decodes, got {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Pillow's words. Where the bytes lie in memory is another place each time, and no part of what is wrong."""
    return f"{type(error).__name__}: {_ADDRESS.sub('', str(error))[:200]}"


def _check(image: Image.Image, where: object) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{where}: expected at most {MAX_PIXELS} pixels, got {image.width} x {image.height}")
    if (frames := getattr(image, "n_frames", 1)) != 1:
        raise DataError(f"{where}: expected one frame, got {frames}")
    if image.mode not in _PLAIN_MODES or _is_deep(image):
        got = "more bits" if image.mode in _PLAIN_MODES else f"mode {image.mode}"
        raise DataError(f"{where}: expected 8-bit gray, RGB or palette, got {got}")


def _is_deep(image: Image.Image) -> bool:
    """More than 8 bits, which Pillow would cut in silence: of TIFF by its tag, of PPM by its greatest value."""
    tags: Any = getattr(image, "tag_v2", {})
    if max(tags.get(_BITS_PER_SAMPLE, (8,))) > 8:
        return True
    tiles: Any = getattr(image, "tile", ()) if image.format == "PPM" else ()  # (decoder, extents, offset, arguments)
    return any(isinstance(tile[3], tuple) and isinstance(tile[3][-1], int) and tile[3][-1] > 255 for tile in tiles)
