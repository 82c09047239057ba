"""An image as a caller has it -> a file: the service takes files, and certifies the pixels in them.

Arrays and PIL images become PNGs, which keep every pixel. A certificate speaks of pixels k/255; what lies between them
is refused here, because it would be certified as something else.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ...models.files import read_bytes
from ..errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image as pil

__all__ = ("Image", "file_of", "read_image")

Image: TypeAlias = "str | os.PathLike[str] | bytes | NDArray[np.generic] | pil.Image"
"""A file by its path; a file's bytes (PNG, JPEG or WebP); an array of (H, W), (H, W, C) or (C, H, W), whole numbers of
0 to 255 or floats k/255 in [0, 1]; a PIL image."""

# Floats that were k/255 as float32 are within 1e-5 of a whole step; a thousandth leaves room for some arithmetic.
_STEP_SLACK = 1e-3
# Of a picture's file: many times what services take (CERTIFY_MAX_BODY_BYTES), and less than memory holds.
MAX_BYTES = 2**28
_ORIENTATION = 0x0112  # of EXIF


def file_of(image: Image) -> bytes:
    """An image file's bytes. Raises RequestError, and TypeError for what is no image at all."""
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image))
    if isinstance(image, bytes):
        return image
    if "PIL.Image" in sys.modules and isinstance(image, sys.modules["PIL.Image"].Image):
        return _of_picture(image)
    if hasattr(image, "__array__"):
        return _of_array(image)
    raise TypeError(f"image: expected a path, bytes, an array or a PIL image, got {type(image).__name__}")


def read_image(path: Path) -> bytes:
    """A file's bytes. Raises RequestError if it cannot be read."""
    try:
        return read_bytes(path, MAX_BYTES)
    except OSError as exc:
        raise RequestError("missing_field", f"image: cannot be read: {exc.strerror}: {path}", field="image") from exc
    except ValueError as exc:  # a zero byte: a file's content, most likely
        detail = f"image: cannot be read: expected a path as text, or a file's content as bytes, got text: {exc}"
        raise RequestError("missing_field", detail, field="image") from exc


def _of_picture(picture: Any) -> bytes:
    from PIL import Image as pil

    exif, buffer = pil.Exif(), io.BytesIO()
    try:
        # A picture that was opened and not turned is turned by the service, as its file would be.
        if (turned := picture.getexif().get(_ORIENTATION, 1)) != 1:
            exif[_ORIENTATION] = turned
        picture.save(buffer, "PNG", compress_level=1, exif=exif if turned != 1 else b"")
    except (OSError, ValueError, SyntaxError) as exc:
        raise _wrong(f"a PIL image that a PNG can hold (.convert('RGB')), got {picture.mode}: {exc}") from exc
    return buffer.getvalue()


def _of_array(image: Any) -> bytes:
    import numpy as np
    from PIL import Image as pil

    try:
        pixels = np.asarray(image)
    except Exception as exc:  # any library's array: of another device, or with a gradient
        raise _wrong(f"an array that numpy can read, got {type(image).__name__}: {exc}") from exc
    return _of_picture(pil.fromarray(_rows(_bytes(pixels))))


def _bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels as whole numbers of 0 to 255."""
    import numpy as np

    if pixels.dtype.kind not in "iuf":
        raise _wrong(f"whole numbers of 0 to 255 or floats k/255 in [0, 1], got {pixels.dtype}")
    if not pixels.size:
        raise _wrong(f"an array with pixels in it, got shape {pixels.shape}")
    if pixels.dtype.kind in "iu":
        if pixels.min() < 0 or pixels.max() > 255:
            raise _wrong(f"whole numbers of 0 to 255, got {pixels.min()} to {pixels.max()}")
        return pixels.astype(np.uint8)
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN is neither
        raise _wrong(f"floats in [0, 1], got {pixels.min()} to {pixels.max()}; .astype(np.uint8) if they are 0 to 255")
    steps = pixels.astype(np.float64) * 255
    whole = np.rint(steps)
    if (off := np.abs(steps - whole)).max() > _STEP_SLACK:
        raise _wrong(
            f"floats k/255, since a certificate speaks of 8-bit images, got {pixels.flat[int(off.argmax())]}; round "
            "them yourself: np.rint(image * 255).astype(np.uint8)"
        )
    return whole.astype(np.uint8)


def _rows(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) or (H, W, C), as PIL has them."""
    shape = pixels.shape
    if pixels.ndim == 2:
        return pixels
    last, first = (pixels.ndim == 3 and shape[end] in channels for end, channels in ((2, (1, 3, 4)), (0, (1, 3))))
    if first and last:
        raise _wrong(f"(H, W), (H, W, C) or (C, H, W), got {shape}, which could be either; send a PIL image")
    if first:
        pixels = pixels.transpose(1, 2, 0)
    elif not last:
        raise _wrong(f"(H, W), (H, W, C) or (C, H, W) of 1 or 3 channels, got {shape}")
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _wrong(expected: str) -> RequestError:
    return RequestError("out_of_range", f"image: expected {expected}", field="image")
