"""models.denoiser on a case with a known answer: Gaussian pixels, whose best denoiser is a straight line."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from certify.models.denoiser import Denoiser  # noqa: E402
from certify.models.schedule import PIXEL_SPAN, Schedule, alpha_bar  # noqa: E402

ALPHA_BAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
SPREAD = 0.4  # pixels are N(0, SPREAD^2) in [-1, 1]


class GaussianNet(torch.nn.Module):
    """The exact network for such pixels, answering in a given prediction type, with channels of learned variance.

    E[x0 | x_t] = sqrt(a) v x_t / (a v + 1 - a), with v = SPREAD^2 and a read back from the timestep it is given.
    """

    def __init__(self, schedule: Schedule, variance_channels: int) -> None:
        super().__init__()
        self.schedule = schedule
        self.variance_channels = variance_channels

    def forward(self, x_t: torch.Tensor, timestep: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        assert not return_dict
        a = torch.as_tensor(alpha_bar(self.schedule.sigma(timestep.double().numpy())))
        a = a.expand(len(x_t)).view(-1, 1, 1, 1)
        v = SPREAD**2
        x0 = a.sqrt() * v * x_t / (a * v + 1 - a)
        answer = {
            "sample": x0,
            "epsilon": (x_t - a.sqrt() * x0) / (1 - a).sqrt(),
            "v_prediction": (a.sqrt() * x_t - x0) / (1 - a).sqrt(),
        }[self.schedule.prediction_type]
        junk = torch.full((len(x_t), self.variance_channels, *x_t.shape[2:]), torch.nan)
        return (torch.cat([answer, junk], dim=1),)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("sigma", [0.12, 0.25, 0.5, 1.0])
def test_gaussian_pixels_shrink_towards_the_mean_as_theory_says(prediction: str, sigma: float) -> None:
    """With s = 2 sigma: signed x0 = v / (v + s^2) * signed(x), whatever the network predicts."""
    schedule = Schedule(ALPHA_BAR, prediction)
    denoiser = Denoiser(GaussianNet(schedule, variance_channels=1), schedule)
    x = torch.linspace(0.2, 0.8, 64, dtype=torch.float64).view(4, 1, 4, 4)
    s = PIXEL_SPAN * sigma
    shrink = SPREAD**2 / (SPREAD**2 + s * s)
    expected = 0.5 + shrink * (x - 0.5)
    # 1e-5: the timestep passes through the network's float32
    assert torch.allclose(denoiser.denoise(x, sigma), expected, atol=1e-5)
    assert denoiser.denoise(x, sigma).shape == x.shape


def test_a_batch_may_have_a_scale_for_each_image() -> None:
    schedule = Schedule(ALPHA_BAR, "epsilon")
    denoiser = Denoiser(GaussianNet(schedule, variance_channels=0), schedule)
    x = torch.linspace(0.2, 0.8, 48, dtype=torch.float64).view(3, 1, 4, 4)
    sigmas = torch.tensor([0.12, 0.5, 1.0], dtype=torch.float64)
    together = denoiser.denoise(x, sigmas)
    for i, sigma in enumerate(sigmas):
        assert torch.allclose(together[i : i + 1], denoiser.denoise(x[i : i + 1], float(sigma)))


def test_the_answer_is_clipped_to_pixels() -> None:
    schedule = Schedule(ALPHA_BAR, "sample")
    denoiser = Denoiser(GaussianNet(schedule, variance_channels=0), schedule)
    wild = denoiser.denoise(torch.tensor([[[[50.0, -50.0]]]]), 0.12)
    assert wild.flatten().tolist() == [1.0, 0.0]
