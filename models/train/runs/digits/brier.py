"""Brier alone; all else as in brier_anti."""

from dataclasses import replace

from .brier_anti import CONFIG as PAPER

CONFIG = replace(PAPER, name="digits_brier", anti_consistency=0.0)
