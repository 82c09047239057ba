"""Brier alone; all else as in digits_brier_anti."""

from dataclasses import replace

from .digits_brier_anti import CONFIG as PAPER

CONFIG = replace(PAPER, name="digits_brier", anti_consistency=0.0)
