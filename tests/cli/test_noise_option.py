"""`certify bundles pack --noise`, and the runtime's measurement of a bundle whose samples are numbered."""

import asyncio
import dataclasses

import pytest

from certify.models.noises import offsets
from certify.service.backends.fake import FAKE_INFO, FakeBackend
from certify.service.cli.options import parse_noise
from certify.service.cli.tune_runtime import _time
from certify.service.errors import DataError


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (None, ()),
        ("gaussian", ()),
        ("gaussian,gaussian", ()),
        ("laplace", ("laplace", "laplace")),
        ("gaussian, uniform", ("gaussian", "uniform")),
    ],
)
def test_one_kind_or_one_for_each_sigma(text, kinds):
    assert parse_noise(text, 2) == kinds


@pytest.mark.parametrize("text", ["", "cauchy", "laplace,", "laplace,cauchy", "laplace,laplace,laplace", "Laplace"])
def test_what_is_no_noise_is_refused_in_words(text):
    with pytest.raises(
        DataError, match="noise: expected one of gaussian, laplace, uniform, splitting, or 2 with commas"
    ):
        parse_noise(text, 2)


class Counting(FakeBackend):
    workers = 1

    def __init__(self) -> None:
        super().__init__(dataclasses.replace(FAKE_INFO, noise=("splitting",) * 3, norm="l1"))
        self.asked: list[int] = []

    async def count_votes(self, image, *, sigma, seed, first, count):
        self.asked.append(first + count)
        return await super().count_votes(image, sigma=sigma, seed=seed, first=first, count=count)


def test_a_measurement_asks_for_no_more_samples_than_there_are():
    backend = Counting()
    asyncio.run(_time(backend, 1024, 0, lambda: 0.0))
    assert sum(backend.asked) == 1024
    assert max(backend.asked) <= offsets(0.25)
