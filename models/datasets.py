"""Labelled images for `certify dataset`, whatever form they have."""

from __future__ import annotations

from .data.dataset import DIGITS_PARTS, DIGITS_SPLIT, DataSet, digits_parts, digits_pixels, open_dataset

__all__ = ("DIGITS_PARTS", "DIGITS_SPLIT", "DataSet", "digits_parts", "digits_pixels", "open_dataset")
