"""Noise scales and timesteps, and the one place where [0, 1] meets [-1, 1].

Outside `models`, pixels are in [0, 1] and sigma is in those units. A diffusion network sees signed = 2 * pixel - 1,
where the same noise has the scale s = 2 * sigma. At timestep t a variance-preserving diffusion shows its network

    x_t = sqrt(a) (signed + s n),   a = alpha_bar(t) = 1 / (1 + s^2),   n standard normal,

therefore a noise scale is a timestep. It is seldom a whole one: log s is interpolated linearly between the two
neighbouring timesteps, and the network's sinusoidal time embedding takes the fraction.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = (
    "PIXEL_SPAN",
    "PREDICTION_TYPES",
    "Schedule",
    "alpha_bar",
    "quiet_diffusers",
    "signal_and_noise",
    "to_signed",
    "to_unit",
)

PIXEL_SPAN = 2.0  # length of [-1, 1] in units of [0, 1]: the only place where this factor is written
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")  # diffusers has more, for other schedulers

Array = TypeVar("Array")  # a numpy array or a torch tensor


def to_signed(pixels: Array) -> Array:
    """[0, 1] -> [-1, 1], any shape; noisy values outside stay outside."""
    values: Any = pixels
    return values * PIXEL_SPAN - 1.0  # type: ignore[no-any-return]


def to_unit(signed: Array) -> Array:
    """[-1, 1] -> [0, 1], any shape."""
    values: Any = signed
    return (values + 1.0) / PIXEL_SPAN  # type: ignore[no-any-return]


def alpha_bar(sigma: ArrayLike) -> NDArray[np.float64]:
    """1 / (1 + s^2) with s = 2 sigma: the share of signal in x_t, exact for any sigma, whatever the diffusion."""
    scale = PIXEL_SPAN * np.asarray(sigma, dtype=np.float64)
    return np.asarray(1.0 / (1.0 + scale * scale))


def signal_and_noise(sigma: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar), each of sigma's shape."""
    share = alpha_bar(sigma)
    return np.sqrt(share), np.sqrt(1.0 - share)


class Schedule:
    """The diffusion's alpha_bar at timesteps 0..T-1, as noise scales in units of [0, 1] pixels."""

    def __init__(self, alphas_cumprod: ArrayLike, prediction_type: str, timestep_scale: float = 1.0) -> None:
        """alphas_cumprod: (T,) strictly falling in (0, 1). prediction_type: one of PREDICTION_TYPES.

        timestep_scale: the network's timesteps are these times 0..T-1, as it was trained.
        """
        shares = np.asarray(alphas_cumprod, dtype=np.float64)
        if shares.ndim != 1 or len(shares) < 2 or not ((0 < shares) & (shares < 1)).all():
            raise ValueError("alphas_cumprod: expected at least two values in (0, 1)")
        if not (np.diff(shares) < 0).all():
            raise ValueError("alphas_cumprod: expected strictly falling values")
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(f"prediction_type: expected one of {', '.join(PREDICTION_TYPES)}, got {prediction_type!r}")
        if not (type(timestep_scale) in (int, float) and math.isfinite(timestep_scale) and timestep_scale > 0):
            raise ValueError(f"timestep_scale: expected a number > 0, got {timestep_scale!r}")
        self.prediction_type = prediction_type
        self._scale = timestep_scale
        self._log_sigma = 0.5 * np.log((1 - shares) / shares) - np.log(PIXEL_SPAN)  # (T,), ascending

    @classmethod
    def from_folder(cls, folder: Path) -> Schedule:
        """Read diffusers' scheduler_config.json (any variance-preserving beta schedule that DDPMScheduler knows).

        One key is ours, beside diffusers' own: timestep_scale. Betas that stand there in full are summed up in float64.
        """
        from diffusers import DDPMScheduler

        with quiet_diffusers():  # it warns of what other schedulers' configs have more
            scheduler = DDPMScheduler.from_pretrained(str(folder))
        config = json.loads((folder / "scheduler_config.json").read_text(encoding="utf-8"))
        shares = scheduler.alphas_cumprod.double().numpy()
        if config.get("trained_betas") is not None and not config.get("rescale_betas_zero_snr"):
            shares = np.cumprod(1 - np.asarray(config["trained_betas"], dtype=np.float64))
        if len(shares) and shares[-1] == 0:  # of rescaled betas: a last step of noise alone, which no scale has
            shares = shares[:-1]
        return cls(shares, str(scheduler.config.prediction_type), config.get("timestep_scale", 1.0))

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Smallest and largest noise scale that this diffusion was built for."""
        return float(np.exp(self._log_sigma[0])), float(np.exp(self._log_sigma[-1]))

    def timestep(self, sigma: ArrayLike) -> NDArray[np.float64]:
        """The network's timesteps of noise scales, fractions too, same shape: in [0, T-1] times timestep_scale.

        Raises ValueError outside sigma_range.
        """
        values = np.asarray(sigma, dtype=np.float64)
        low, high = self.sigma_range
        # A relative slack of 1e-9 lets sigma(T-1) come back in: exp and log round.
        if not ((values >= low * (1 - 1e-9)) & (values <= high * (1 + 1e-9))).all():
            raise ValueError(f"sigma: expected values in [{low:.6g}, {high:.6g}], got {values}")
        steps = np.arange(len(self._log_sigma), dtype=np.float64)
        return np.asarray(np.interp(np.log(values), self._log_sigma, steps)) * self._scale

    def sigma(self, timestep: ArrayLike) -> NDArray[np.float64]:
        """The inverse of `timestep`."""
        steps = np.arange(len(self._log_sigma), dtype=np.float64) * self._scale
        return np.asarray(np.exp(np.interp(np.asarray(timestep, dtype=np.float64), steps, self._log_sigma)))


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """Without its warnings, as that `accelerate` is missing, although a network this small gains nothing from it."""
    logger = logging.getLogger("diffusers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
