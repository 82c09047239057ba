"""Image files for requests, made when they are needed."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def gray(seed: int = 0, size: tuple[int, int] = (8, 8)) -> Image.Image:
    """An 8-bit gray image, (width, height), of noise that the seed names."""
    pixels = np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)
    return Image.fromarray(pixels)


def tensor(seed: int = 0, shape: tuple[int, ...] = (1, 8, 8)) -> NDArray[np.float32]:
    """An 8-bit picture as a network gets it, of noise that the seed names: n / 255 in float32."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32) / np.float32(255)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(seed: int = 0, size: tuple[int, int] = (8, 8)) -> bytes:
    return encoded(gray(seed, size))


def class_folders(place: Path, images: int, classes: int, size: tuple[int, int] = (8, 8)) -> Path:
    """`place` with a folder for each class, named by numbers; images go round them: 0/0.png, 1/1.png, ..."""
    for number in range(images):
        path = place / str(number % classes) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number, size))
    return place


def animation(kind: str) -> bytes:
    return encoded(gray(1), kind, save_all=True, append_images=[gray(2)], duration=100)


def png_bomb(width: int, height: int, bit_depth: int = 8, colour: int = 0) -> bytes:
    """A few bytes whose header promises width x height pixels; the pixels are one short line of zeros."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, data) for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    )


def png_16_bit_rgb() -> bytes:
    """8 x 8, 16-bit RGB, well formed: Pillow would cut it to 8 bits in silence."""
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    lines = b"".join(b"\x00" + bytes(range(48)) for _ in range(8))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, data) for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    )


def webp_bomb(side: int = 16_383) -> bytes:
    """An extended WebP whose header promises side x side pixels and which ends there."""
    less_one = (side - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes(4) + less_one + less_one
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
