"""scikit-learn's handwritten digits, in the parts that the shipped bundle was trained, tuned and judged on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .dataset import DataSet
from .pictures import png

__all__ = ("DIGITS_PARTS", "DIGITS_SPLIT", "digits_parts", "digits_pixels", "open_digits")

DIGITS_SPLIT = "digits-60-15-25-v1"  # another split gets another name
DIGITS_PARTS = ("train", "tune", "held_out")
_DIGITS_SEED = 2310_16779
_DIGITS_BRIGHTEST = 16


def digits_pixels() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """scikit-learn's 1,797 handwritten digits: (1797, 8, 8) pixels, round(x * 255 / 16), and labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("digits: expected scikit-learn to be installed (pip install scikit-learn)") from error
    raw = load_digits()
    return np.round(raw.images * 255 / _DIGITS_BRIGHTEST).astype(np.uint8), raw.target.astype(np.int64)


def digits_parts(count: int = 1797) -> dict[str, NDArray[np.int64]]:
    """DIGITS_SPLIT: indices by part; a permutation by PCG64 with a fixed seed, cut at 60% and 75%."""
    order = np.random.Generator(np.random.PCG64(_DIGITS_SEED)).permutation(count).astype(np.int64)
    first, second = round(0.60 * count), round(0.75 * count)
    return dict(zip(DIGITS_PARTS, (order[:first], order[first:second], order[second:]), strict=True))


def open_digits(part: str) -> DataSet:
    """part: one of DIGITS_PARTS. Raises DataError."""
    if part not in DIGITS_PARTS:
        raise DataError(f"part: expected one of {', '.join(DIGITS_PARTS)}, got {part!r}")
    pixels, labels = digits_pixels()
    idx = tuple(int(i) for i in digits_parts()[part])
    return DataSet(
        name="digits",
        split=f"{DIGITS_SPLIT}:{part}",
        classes=tuple(str(digit) for digit in range(10)),
        idx=idx,
        labels=tuple(int(labels[i]) for i in idx),
        read=lambda position: png(pixels[idx[position]]),
    )
