"""Cross-entropy, which the paper argues against; all else as in brier_anti."""

from dataclasses import replace

from .brier_anti import CONFIG as PAPER

CONFIG = replace(PAPER, name="digits_cross_entropy", loss="cross_entropy", anti_consistency=0.0)
