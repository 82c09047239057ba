"""The knobs of a training run; models/train/runs/<name>.py sets them, with reasons."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("TrainConfig",)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run. Scales are in units of [0, 1] pixels."""

    # what comes out
    name: str
    version: str
    final: str  # how the finest scale decides
    # networks
    unet_channels: tuple[int, ...]  # width at each resolution, finest first
    unet_groups: int  # of its group norms
    unet_attention: bool
    classifier: str  # timm's name for it
    # diffusion
    timesteps: int
    beta_start: float
    beta_end: float
    # data
    augment_share: float
    augment_degrees: float
    augment_scale: float
    augment_shear: float
    augment_shift_pixels: float
    # optimisation
    seed: int
    steps: int
    batch: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    grad_clip: float
    ema: float
    # losses
    sigma_low: float  # training draws scales log-uniformly between these two
    sigma_high: float
    denoise_weight: float
    clean_share: float  # clean images for each denoised one in the classifier's loss
    clean_weight: float
    # choosing and measuring
    sigmas: tuple[float, ...]  # of the cascade
    candidate_thresholds: tuple[float, ...]  # for every scale but the finest, when that one decides by plurality
    report_sigmas: tuple[float, ...]  # single scales in the card
    tune_samples: int  # draws a scale on the tuning part
    evaluate_samples: int  # draws a scale on the held-out part, at the end of the command
    samples: int  # draws of one request, for which thresholds are chosen
    alpha: float
    max_images: int | None  # of each part; None = all (the smoke test takes a few)
    log_every: int
