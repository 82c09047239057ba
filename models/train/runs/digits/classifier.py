"""The other baseline: the classifier trained on what the frozen denoiser makes; all else as in brier_anti."""

from dataclasses import replace

from .brier_anti import CONFIG as PAPER

CONFIG = replace(PAPER, name="digits_classifier", trains="classifier", loss="cross_entropy", anti_consistency=0.0)
