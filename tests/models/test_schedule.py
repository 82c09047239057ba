"""models.schedule: scales, timesteps and the one factor between [0, 1] and [-1, 1]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from certify.models.schedule import Schedule, alpha_bar, to_signed, to_unit

# DDPM's linear schedule (Ho et al. 2020): an outside reference for alpha_bar
ALPHA_BAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(ALPHA_BAR, "v_prediction")


def test_unit_and_signed_pixels_are_inverse_and_stretch_by_two() -> None:
    """0 -> -1, .5 -> 0, 1 -> 1; noise of .25 in [0, 1] is noise of .5 in [-1, 1]."""
    pixels = np.array([0.0, 0.5, 1.0])
    assert to_signed(pixels).tolist() == [-1.0, 0.0, 1.0]
    assert to_unit(to_signed(pixels)).tolist() == pixels.tolist()
    assert (to_signed(pixels + 0.25) - to_signed(pixels)).tolist() == [0.5, 0.5, 0.5]


def test_whole_timesteps_come_back_exactly_and_fractions_to_rounding(schedule: Schedule) -> None:
    steps = np.concatenate([np.arange(1000.0), np.linspace(0, 999, 777)])
    assert np.abs(schedule.timestep(schedule.sigma(steps)) - steps).max() < 1e-9


def test_the_scale_of_a_timestep_is_that_of_its_alpha_bar(schedule: Schedule) -> None:
    """alpha_bar(t) = 1 / (1 + (2 sigma)^2), from the table and from sigma alike."""
    for step in (0, 1, 137, 500, 999):
        sigma = schedule.sigma(step)
        assert alpha_bar(sigma) == pytest.approx(ALPHA_BAR[step], rel=1e-12)
        assert 4 * sigma**2 == pytest.approx((1 - ALPHA_BAR[step]) / ALPHA_BAR[step], rel=1e-12)


def test_alpha_bar_at_a_hand_worked_scale(schedule: Schedule) -> None:
    """sigma = .5 is s = 1 in [-1, 1]: signal and noise weigh the same, alpha_bar = 1/2."""
    assert alpha_bar(0.5) == 0.5
    assert schedule.timestep(0.5) % 1 != 0  # no whole timestep has it: the fraction is needed


def test_larger_scales_are_later(schedule: Schedule) -> None:
    assert (np.diff(schedule.timestep([0.12, 0.25, 0.5, 0.75, 1.0])) > 0).all()


def test_a_last_step_of_noise_alone_is_none_of_the_scales(tmp_path: Path) -> None:
    """Of betas rescaled to a signal of 0 (Lin et al. 2023): the steps before it keep their numbers."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    scheduler.save_pretrained(str(tmp_path))
    schedule, shares = Schedule.from_folder(tmp_path), scheduler.alphas_cumprod.double().numpy()
    assert shares[-1] == 0 and schedule.timestep(0.5 * np.sqrt((1 - shares[700]) / shares[700])) == pytest.approx(700)
    assert alpha_bar(schedule.sigma_range[1]) == pytest.approx(shares[-2])


@pytest.mark.parametrize("sigma", [0.0, 1e-4, 100.0, -0.5, float("nan"), float("inf")])
def test_a_scale_outside_the_diffusion_is_refused(schedule: Schedule, sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma: expected values in"), np.errstate(invalid="ignore", divide="ignore"):
        schedule.timestep(sigma)


@pytest.mark.parametrize(
    ("alphas", "prediction", "message"),
    [
        ([0.9], "epsilon", "alphas_cumprod"),
        ([0.9, 0.95], "epsilon", "falling"),
        ([1.0, 0.5], "epsilon", "alphas_cumprod"),
        ([0.9, 0.5], "flow_prediction", "prediction_type"),
    ],
)
def test_a_schedule_that_is_none_is_refused(alphas: list[float], prediction: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(alphas, prediction)
