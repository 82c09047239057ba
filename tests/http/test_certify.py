"""POST /certify over ASGI: what it answers when all is well, alone and beside others."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from certify.service.backends.fake import FakeBackend
from tests import pictures
from tests.answer_rules import check
from tests.servers import InProcess, in_process

pytestmark = pytest.mark.anyio


async def ask(service: InProcess, image: bytes | int = 0, **fields: Any) -> dict[str, Any]:
    data = pictures.png(image) if isinstance(image, int) else image
    response = await service.client.post("/certify", files={"image": ("a.png", data)}, data=fields)
    assert response.status_code == 200, response.text
    return check(response.json())


def facts(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what names the occasion."""
    return {name: value for name, value in answer.items() if name not in ("id", "timing")}


async def test_an_answer_names_everything_that_it_depends_on() -> None:
    async with in_process() as service:
        answer = await ask(service, samples="2000")
        image = np.asarray(pictures.gray())[None] / 255.0
        assert answer["input"] == {
            "sha256": hashlib.sha256(image.astype("<f4").tobytes()).hexdigest(),
            "shape": [1, 8, 8],
            "range": [0, 1],
            "resized": False,
            "turned": False,
        }
        info = (await service.client.get("/info")).json()
        assert answer["bundle"] == {"name": info["bundle"]["name"], "digest": info["bundle"]["digest"]}
        assert answer["runtime"] == {name: info["backend"][name] for name in answer["runtime"]}
        assert answer["runtime"]["micro_batch"] == 32
        assert answer["threshold"] == info["bundle"]["thresholds"]
        assert answer["samples_used"] <= 2000
        assert 0.0 <= answer["timing"]["sampling_seconds"] <= answer["timing"]["total_seconds"]


async def test_json_and_a_form_get_the_same_answer() -> None:
    async with in_process() as service:
        body = {"image": base64.b64encode(pictures.png()).decode(), "samples": 2000, "radius": 0.2, "sigmas": [1, 0.5]}
        response = await service.client.post("/certify", json=body)
        form = await ask(service, samples="2000", radius="0.2", sigmas="1,0.5")
        assert facts(check(response.json())) == facts(form)


async def test_the_rules_hold_for_many_images_and_every_outcome_occurs() -> None:
    seen = set()
    async with in_process() as service:
        for seed in range(40):
            fields = [
                {},
                {"radius": "0.4"},
                {"radius": "0.05", "norm": "linf"},
                {"final": "threshold", "threshold": "0.6"},
            ]
            answer = await ask(service, seed, samples="2000", **fields[seed % 4])
            seen.add(answer["outcome"])
    assert seen == {"certified", "below_radius", "abstained"}


async def test_the_same_request_gets_the_same_answer_alone_and_beside_sixteen_others() -> None:
    # A delay, so that the others' calls really come between this request's.
    async with in_process(FakeBackend(delay_seconds=0.001), call_samples=256, max_running=17) as service:
        alone = await ask(service, 3, samples="3000")
        others = [ask(service, 100 + number, samples="3000") for number in range(16)]
        beside, *_ = await asyncio.gather(ask(service, 3, samples="3000"), *others)
        assert facts(beside) == facts(alone)
    async with in_process(call_samples=9999, max_running=1) as service:
        assert facts(await ask(service, 3, samples="3000")) == facts(alone)


async def test_another_key_gets_other_noise() -> None:
    async with in_process() as one, in_process(seed_key="another key that is long enough 00000") as other:
        assert facts(await ask(one, samples="2000")) != facts(await ask(other, samples="2000"))


@pytest.mark.parametrize(
    "fields",
    [
        {"samples": "2048"},
        {"radius": "0.5"},
        {"radius": "0.5000001"},
        {"threshold": "0.51"},
        {"alpha": "0.002"},
        {"final": "threshold"},
        {"sigmas": "1,0.5"},
        {"radius": "0.05", "norm": "linf"},
    ],
    ids=lambda fields: str(fields),
)
async def test_other_parameters_get_other_noise(fields: dict[str, Any]) -> None:
    backend = FakeBackend()
    seeds: list[set[int]] = []

    class Noting(FakeBackend):
        async def count_votes(self, image: Any, *, sigma: float, seed: int, first: int, count: int) -> Any:
            seeds[-1].add(seed)
            return await backend.count_votes(image, sigma=sigma, seed=seed, first=first, count=count)

    async with in_process(Noting()) as service:
        spelt_out: dict[str, Any] = {"samples": "10000", "alpha": "0.001", "norm": "l2", "sigmas": "1,0.5,0.25"}
        for asked in ({}, fields, {"deadline_ms": "600000"}, spelt_out):
            seeds.append(set())
            await ask(service, **asked)
    plain, other, with_deadline, defaults_spelt_out = seeds
    assert not plain & other
    assert plain == with_deadline == defaults_spelt_out


async def test_samples_within_one_chunk_are_the_same_request() -> None:
    async with in_process() as service:
        assert facts(await ask(service, samples="2016")) == facts(await ask(service, samples="2047"))


async def test_one_sigma_is_plain_smoothing_with_one_stage() -> None:
    async with in_process() as service:
        answer = await ask(service, sigmas="0.5")
        assert [stage["sigma"] for stage in answer["stages"]] == [0.5]
        assert answer["threshold"] == [0.5]


async def test_a_radius_in_linf_is_met_through_l2() -> None:
    async with in_process() as service:
        met = [await ask(service, seed, radius="0.03", norm="linf") for seed in range(20)]
    certified = [answer for answer in met if answer["outcome"] == "certified"]
    assert certified
    for answer in certified:
        assert answer["radius_linf"] >= 0.03
        assert answer["radius"] >= 0.03 * 8
        assert (answer["norm"], answer["requested_radius"]) == ("linf", 0.03)


async def test_a_requested_radius_costs_fewer_samples_than_the_largest_one() -> None:
    async with in_process() as service:
        seeds = range(20)
        as_far_as_possible = sum([(await ask(service, seed))["samples_used"] for seed in seeds])
        this_far = sum([(await ask(service, seed, radius="0.2"))["samples_used"] for seed in seeds])
        assert this_far < as_far_as_possible / 2


async def test_never_more_samples_than_asked_for() -> None:
    backend = FakeBackend()
    drawn = 0

    class Counting(FakeBackend):
        async def count_votes(self, image: Any, *, sigma: float, seed: int, first: int, count: int) -> Any:
            nonlocal drawn
            drawn += count
            return await backend.count_votes(image, sigma=sigma, seed=seed, first=first, count=count)

    async with in_process(Counting()) as service:
        for samples in (128, 129, 500, 1000, 9999, 100_000):
            drawn = 0
            answer = await ask(service, samples=str(samples))
            assert drawn == answer["samples_used"] <= samples


async def test_an_image_of_another_size_is_resized_when_asked_for_and_the_answer_says_so() -> None:
    async with in_process() as service:
        answer = await ask(service, pictures.png(size=(30, 20)), resize="true")
        assert answer["input"]["resized"] is True
        assert answer["input"]["shape"] == [1, 8, 8]


async def test_the_uncertified_label_is_the_plain_classifiers() -> None:
    async with in_process() as service:
        image = (np.asarray(pictures.gray(5))[None] / 255.0).astype(np.float32)
        assert (await ask(service, 5))["uncertified_label"]["index"] == await service.backend.classify(image)


async def test_a_deadline_that_comes_in_the_middle_gives_what_has_been_proved() -> None:
    backend = FakeBackend()
    calls = 0

    class Slowing(FakeBackend):
        """Answers the pilot and some looks, then never again."""

        async def count_votes(self, image: Any, *, sigma: float, seed: int, first: int, count: int) -> Any:
            nonlocal calls
            calls += 1
            if calls > 6:
                await asyncio.sleep(3600)
            return await backend.count_votes(image, sigma=sigma, seed=seed, first=first, count=count)

    reasons, samples_used, whole = set(), 0, 0
    async with in_process(Slowing()) as service, in_process() as quick:
        for seed in range(4):
            calls = 0
            answer = await ask(service, seed, deadline_ms="500")
            reasons.add(answer["abstain_reason"])
            samples_used += answer["samples_used"]
            whole += (await ask(quick, seed))["samples_used"]
        assert await service.metric("certify_in_flight") == 0
    assert reasons <= {None, "deadline"}
    assert "deadline" in reasons or samples_used < whole


async def test_a_deadline_that_comes_before_any_look_is_504() -> None:
    async with in_process(FakeBackend(delay_seconds=3600)) as service:
        response = await service.client.post(
            "/certify", files={"image": ("a.png", pictures.png())}, data={"deadline_ms": "20"}
        )
        assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")


async def test_the_deadline_counts_the_time_in_the_queue() -> None:
    async with in_process(FakeBackend(delay_seconds=3600), max_running=1) as service:
        first = asyncio.create_task(service.client.post("/certify", files={"image": ("a.png", pictures.png())}))
        while service.backend.running == 0:
            await asyncio.sleep(0.001)
        response = await service.client.post(
            "/certify", files={"image": ("a.png", pictures.png())}, data={"deadline_ms": "20"}
        )
        assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
        assert "before any look" in response.json()["detail"]
        assert await service.metric("certify_queue_depth") == 0
        service.gateway.admission.abort()
        assert (await first).json()["code"] == "draining"


async def test_overload_is_answered_at_once_with_retry_after() -> None:
    async with in_process(FakeBackend(delay_seconds=3600), max_running=2, max_queued=3) as service:

        def send() -> asyncio.Task[httpx.Response]:
            return asyncio.create_task(service.client.post("/certify", files={"image": ("a.png", pictures.png())}))

        accepted = [send() for _ in range(5)]
        while await service.metric("certify_queue_depth") != 3 or await service.metric("certify_in_flight") != 2:
            await asyncio.sleep(0.001)
        refused = await send()
        assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
        assert int(refused.headers["Retry-After"]) >= 1
        assert service.backend.calls == 2
        # It was answered before its body was looked at: a broken one is refused the same way.
        broken = await service.client.post("/certify", content=b"{", headers={"Content-Type": "application/json"})
        assert broken.status_code == 429
        service.gateway.admission.abort()
        answers = await asyncio.gather(*accepted)
        assert {answer.json()["code"] for answer in answers} == {"draining"}
        assert await service.metric("certify_queue_depth") == 0
        assert await service.metric("certify_in_flight") == 0
        assert service.backend.running == 0


async def test_a_backend_that_fails_costs_its_request_a_503_and_nothing_else() -> None:
    async with in_process() as service:
        before = await ask(service, 1)
        service.backend.failing = True
        response = await service.client.post("/certify", files={"image": ("a.png", pictures.png(1))})
        assert (response.status_code, response.json()["code"]) == (503, "backend_unavailable")
        assert (await service.client.get("/readyz")).status_code == 503
        assert (await service.client.get("/livez")).status_code == 200
        service.backend.failing = False
        assert facts(await ask(service, 1)) == facts(before)
        assert (await service.client.get("/readyz")).status_code == 200
        assert await service.metric("certify_in_flight") == 0


async def test_a_backend_that_stalls_costs_its_request_a_503() -> None:
    async with in_process(FakeBackend(delay_seconds=3600), call_seconds=0.02) as service:
        response = await service.client.post("/certify", files={"image": ("a.png", pictures.png())})
        assert (response.status_code, response.json()["code"]) == (503, "backend_unavailable")
        service.backend.delay_seconds = 0
        await ask(service)


async def test_draining_refuses_new_requests_and_readiness_but_not_liveness() -> None:
    async with in_process() as service:
        service.gateway.admission.drain()
        response = await service.client.post("/certify", files={"image": ("a.png", pictures.png())})
        assert (response.status_code, response.json()["code"]) == (503, "draining")
        ready = await service.client.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "draining")
        assert (await service.client.get("/livez")).status_code == 200


async def test_info_says_what_can_be_asked_for() -> None:
    async with in_process() as service:
        info = (await service.client.get("/info")).json()
        limits, defaults = info["limits"], info["defaults"]
        at_the_limit = await ask(service, samples=str(limits["min_samples"]))
        assert at_the_limit["samples_used"] <= limits["min_samples"]
        assert (await ask(service, radius=str(limits["max_radius"])))["requested_radius"] == limits["max_radius"]
        assert defaults["samples"] == 10_000
        assert info["seed_key"] == "configured"
        assert info["backend"]["kind"] == "fake"
    async with in_process(seed_key=None) as service:
        assert (await service.client.get("/info")).json()["seed_key"] == "random"


async def test_gray_and_equal_colour_images_are_the_same_tensor() -> None:
    async with in_process() as service:
        colour = pictures.encoded(Image.merge("RGB", [pictures.gray()] * 3))
        assert facts(await ask(service, colour)) == facts(await ask(service))
