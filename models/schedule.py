"""Noise scales and timesteps, and the one place where [0, 1] meets [-1, 1].

Outside `models`, pixels are in [0, 1] and sigma is in those units. A diffusion network sees signed = 2 * pixel - 1,
where the same noise has the scale s = 2 * sigma. At timestep t a variance-preserving diffusion shows its network

    x_t = sqrt(a) (signed + s n),   a = alpha_bar(t) = 1 / (1 + s^2),   n standard normal,

therefore a noise scale is a timestep. It is seldom a whole one: log s is interpolated linearly between the two
neighbouring timesteps, and the network's sinusoidal time embedding takes the fraction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ("PIXEL_SPAN", "PREDICTION_TYPES", "Schedule", "alpha_bar", "signal_and_noise", "to_signed", "to_unit")

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

    def __init__(self, alphas_cumprod: ArrayLike, prediction_type: str) -> None:
        """alphas_cumprod: (T,) strictly falling in (0, 1). prediction_type: one of PREDICTION_TYPES."""
        shares = np.asarray(alphas_cumprod, dtype=np.float64)
        if shares.ndim != 1 or len(shares) < 2 or not ((0 < shares) & (shares < 1)).all():
            raise ValueError("alphas_cumprod: expected at least two values in (0, 1)")
        if not (np.diff(shares) < 0).all():
            raise ValueError("alphas_cumprod: expected strictly falling values")
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(f"prediction_type: expected one of {', '.join(PREDICTION_TYPES)}, got {prediction_type!r}")
        self.prediction_type = prediction_type
        self._log_sigma = 0.5 * np.log((1 - shares) / shares) - np.log(PIXEL_SPAN)  # (T,), ascending

    @classmethod
    def from_folder(cls, folder: Path) -> Schedule:
        """Read diffusers' scheduler_config.json (any variance-preserving beta schedule that DDPMScheduler knows)."""
        from diffusers import DDPMScheduler

        scheduler = DDPMScheduler.from_pretrained(str(folder))
        return cls(scheduler.alphas_cumprod.double().numpy(), str(scheduler.config.prediction_type))

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Smallest and largest noise scale that this diffusion was built for."""
        return float(np.exp(self._log_sigma[0])), float(np.exp(self._log_sigma[-1]))

    def timestep(self, sigma: ArrayLike) -> NDArray[np.float64]:
        """Fractional timesteps in [0, T-1] of noise scales, same shape. Raises ValueError outside sigma_range."""
        values = np.asarray(sigma, dtype=np.float64)
        low, high = self.sigma_range
        # A relative slack of 1e-9 lets sigma(T-1) come back in: exp and log round.
        if not ((values >= low * (1 - 1e-9)) & (values <= high * (1 + 1e-9))).all():
            raise ValueError(f"sigma: expected values in [{low:.6g}, {high:.6g}], got {values}")
        steps = np.arange(len(self._log_sigma), dtype=np.float64)
        return np.asarray(np.interp(np.log(values), self._log_sigma, steps))

    def sigma(self, timestep: ArrayLike) -> NDArray[np.float64]:
        """The inverse of `timestep`."""
        steps = np.arange(len(self._log_sigma), dtype=np.float64)
        return np.asarray(np.exp(np.interp(np.asarray(timestep, dtype=np.float64), steps, self._log_sigma)))
