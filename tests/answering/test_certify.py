"""One image -> one answer: what is refused before sampling, and what a deadline does, whoever asks."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from PIL import Image

from certify.service.answering.certify import Job, answer, certify, prepare, run
from certify.service.answering.driver import CallLimits
from certify.service.answering.schemas import CertifyFields
from certify.service.answering.seeds import key_from_number
from certify.service.backends.fake import FAKE_INFO, FakeBackend
from certify.service.errors import BackendUnavailable, DeadlineExceeded, RequestError
from certify.service.research.certifiers import LocalCertifier
from certify.service.research.policies import Policy
from certify.service.settings import Settings, load_settings
from tests import pictures
from tests.answer_rules import check

pytestmark = pytest.mark.anyio

KEY = key_from_number(1)


def settings(**flags: Any) -> Settings:
    return load_settings(backend="fake", **flags)


def job(
    image: bytes | None = None, *, arrival: float = 1000.0, flags: dict[str, Any] | None = None, **fields: Any
) -> Job:
    data = pictures.png() if image is None else image
    return prepare(data, CertifyFields(**fields), FAKE_INFO, settings(**flags or {}), arrival=arrival)


def test_a_job_holds_the_plan_the_tensor_and_the_settings_limits() -> None:
    made = job(samples=2000, sigmas=[1.0, 0.5], flags={"call_samples": 512, "call_seconds": 7})
    assert made.plan.sigmas == (0.5, 1.0)
    assert made.plan.samples == 2000 // FAKE_INFO.chunk * FAKE_INFO.chunk
    tensor = np.asarray(pictures.gray())[None].astype(np.float32) / np.float32(255)
    assert np.array_equal(made.picture.tensor, tensor)
    assert made.picture.sha256 == hashlib.sha256(tensor.astype("<f4").tobytes()).digest()
    assert made.question.limits == CallLimits(samples=512, seconds=7)
    assert made.question.deadline is None


@pytest.mark.parametrize(("milliseconds", "kept_back"), [(10_000, 0.03), (300, 0.03), (100, 0.01), (1, 0.0001)])
def test_a_part_of_a_deadline_is_kept_for_the_answer_and_it_counts_from_the_arrival(
    milliseconds: int, kept_back: float
) -> None:
    made = job(arrival=1000.0, deadline_ms=milliseconds)
    assert made.question.deadline == pytest.approx(1000.0 + milliseconds / 1000 - kept_back, abs=1e-9)


async def test_the_loops_deadline_is_as_far_away_as_the_jobs() -> None:
    class Shifted(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return super().time() + 5000.0

    async def seconds_left() -> float:
        until = job(arrival=time.monotonic(), deadline_ms=3_600_000).question.loop_deadline()
        assert until is not None
        return until - asyncio.get_running_loop().time()

    def in_a_shifted_loop() -> float:
        with asyncio.Runner(loop_factory=Shifted) as runner:
            return runner.run(seconds_left())

    for left in (await seconds_left(), await asyncio.to_thread(in_a_shifted_loop)):
        assert 3000 < left <= 3_600  # a busy machine may take its time, but not ten minutes


@pytest.mark.parametrize(
    ("image", "fields", "flags", "code"),
    [
        (b"no image", {}, {}, "unsupported_format"),
        (pictures.png(size=(9, 9)), {}, {}, "image_wrong_size"),
        (pictures.png(), {}, {"max_pixels": 63}, "image_too_many_pixels"),
        (pictures.png(), {"samples": 2000}, {"max_samples": 1999}, "out_of_range"),
        (pictures.png(), {"samples": 1}, {}, "budget_too_small"),
        # Parameters are cheaper to refuse, and come first.
        (b"no image", {"sigmas": [0.3]}, {}, "unknown_sigma"),
    ],
)
def test_what_cannot_be_certified_is_refused_before_anything_is_sampled(
    image: bytes, fields: dict[str, Any], flags: dict[str, Any], code: str
) -> None:
    with pytest.raises(RequestError) as refused:
        job(image, flags=flags, **fields)
    assert refused.value.code == code


async def test_preparing_running_and_answering_is_certifying() -> None:
    backend = FakeBackend()
    made = job(samples=2000, radius=0.1)
    in_steps = answer(made, await run(made, backend, KEY), KEY, request_id="mine")
    at_once = await certify(pictures.png(), CertifyFields(samples=2000, radius=0.1), FakeBackend(), settings(), KEY)
    assert check(in_steps.model_dump(mode="json"))["id"] == "mine"
    apart = {"id", "timing"}
    assert in_steps.model_dump(exclude=apart) == at_once.model_dump(exclude=apart)
    assert at_once.timing.total_seconds >= at_once.timing.sampling_seconds


async def test_the_noise_is_the_keys_and_the_images() -> None:
    first, same, other_image = job(), job(), job(pictures.png(1))
    named = ("estimation", 0.5)
    assert first.seed_of(KEY)(*named) == same.seed_of(KEY)(*named)
    seeds = {first.seed_of(KEY)(*named), first.seed_of(key_from_number(2))(*named), other_image.seed_of(KEY)(*named)}
    assert len(seeds) == 3


async def test_equal_tensors_in_different_files_are_the_same_job() -> None:
    colour = pictures.encoded(Image.merge("RGB", [pictures.gray()] * 3))
    assert job(colour).seed_of(KEY)("pilot", 1.0) == job().seed_of(KEY)("pilot", 1.0)


async def test_a_deadline_that_has_passed_says_nothing_and_samples_nothing() -> None:
    backend = FakeBackend()
    made = job(arrival=time.monotonic() - 1.0, deadline_ms=1000)
    with pytest.raises(DeadlineExceeded):
        await run(made, backend, KEY)
    assert backend.running == 0


async def test_a_deadline_in_the_middle_gives_what_was_proved_by_then() -> None:
    class Stopping(FakeBackend):
        """Answers the class, the pilot and some looks, then never again."""

        left = 8

        async def _work(self) -> None:
            self.left -= 1
            if self.left < 0:
                await asyncio.sleep(3600)
            await super()._work()

    fields = CertifyFields(deadline_ms=1000)
    cut = await certify(pictures.png(3), fields, Stopping(), settings(), KEY)
    whole = await certify(pictures.png(3), CertifyFields(), FakeBackend(), settings(), KEY)
    check(cut.model_dump(mode="json"))
    assert cut.abstain_reason == "deadline" or cut.label is not None
    assert cut.samples_used < whole.samples_used
    assert cut.radius <= whole.radius


async def test_a_backend_that_fails_is_an_unavailable_backend() -> None:
    backend = FakeBackend()
    backend.failing = True
    with pytest.raises(BackendUnavailable):
        await certify(pictures.png(), CertifyFields(), backend, settings(), KEY)


@pytest.mark.parametrize("policy", ["best", "first"])
async def test_without_a_service_a_call_takes_as_long_as_it_takes(policy: Policy) -> None:
    for chosen, fails in (set(), False), ({"call_seconds"}, True):
        slow = FakeBackend(delay_seconds=0.001)
        limits = Settings.model_construct(_fields_set=chosen, backend="fake", call_seconds=1e-9)
        certifier = LocalCertifier(slow, limits, CertifyFields(samples=640), policy=policy, seed=1)
        with pytest.raises(BackendUnavailable, match="did not answer within") if fails else nullcontext():
            assert (await certifier.certify(0, 1, pictures.png())).samples > 0
        with pytest.raises(BackendUnavailable, match="did not answer within") if fails else nullcontext():
            assert (await certify(pictures.png(), CertifyFields(samples=640), slow, limits, KEY)).samples_used > 0
