"""Pictures at the very limits of what is let through: the most work, or memory, for their bytes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from certify.service.answering.image_headers import MAX_SCANS, MAX_SIDE

__all__ = ("LIMIT_PICTURES", "REPEATED_SCANS")

REPEATED_SCANS = Path(__file__).parents[1] / "tests/cases/images/progressive_3000_scans.jpg"

# The first column, first row, column step and row step of each pass (PNG, chapter 8.2).
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def many_scans() -> bytes:
    """A progressive JPEG of 4096 x 4096 whose last scan is repeated until there are as many as are allowed."""
    good = _encoded(Image.new("L", (4096, 4096), 99), "JPEG", progressive=True, quality=5)
    last = good.rindex(b"\xff\xda")
    return good[:last] + good[last:-2] * (MAX_SCANS - good.count(b"\xff\xda") + 1) + b"\xff\xd9"


def longest_side() -> bytes:
    return _encoded(Image.new("RGB", (MAX_SIDE, 1024), (1, 2, 3)), "PNG")


def interlaced() -> bytes:
    """A 4096 x 4096 PNG in seven passes, RGB."""
    side, passes = 4096, bytearray()
    for x, y, dx, dy in _ADAM7:
        columns, rows = -(-(side - x) // dx), -(-(side - y) // dy)
        passes += (b"\x00" + b"\x01\x02\x03" * columns) * rows
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(passes))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def reducible() -> bytes:
    """64 megapixels: four times max_pixels, which a JPEG that is to be resized may have."""
    return _encoded(Image.new("RGB", (8192, 8192), (1, 2, 3)), "JPEG", quality=5)


def webp() -> bytes:
    return _encoded(Image.new("RGB", (4096, 4096), (1, 2, 3)), "WEBP", lossless=True)


def opaque_alpha() -> bytes:
    """Gray with an alpha channel that is opaque: converting it takes several pictures' memory."""
    return _encoded(Image.new("LA", (4096, 4096), (1, 255)), "PNG")


def heavy_file() -> bytes:
    """Noise, which no format can make smaller: 9.4 MiB of file, and as much again in each copy."""
    pixels = np.random.default_rng(0).integers(0, 256, (3100, 3100), dtype=np.uint8)
    return _encoded(Image.fromarray(pixels), "PNG", compress_level=1)


LIMIT_PICTURES: dict[str, Callable[[], bytes]] = {
    "3,000 scans": REPEATED_SCANS.read_bytes,
    "64 scans of 4096 x 4096": many_scans,
    "PNG of 16384 x 1024": longest_side,
    "interlaced PNG of 16 Mpixel": interlaced,
    "JPEG of 64 Mpixel": reducible,
    "WebP of 16 Mpixel": webp,
    "PNG of 16 Mpixel with alpha": opaque_alpha,
    "PNG of noise, 9 MiB": heavy_file,
}


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
