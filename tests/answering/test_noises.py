"""Requests to bundles of other noises: what is refused, what is answered, and what is counted to the last sample."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from certify.models.noises import NoiseKind, laplace_b, offsets
from certify.service.answering.certify import certify
from certify.service.answering.plans import largest_radius, least_samples, make_plan
from certify.service.answering.schemas import CertifyFields
from certify.service.backends.base import BackendInfo
from certify.service.backends.fake import FAKE_INFO, FakeBackend
from certify.service.core import Counter
from certify.service.errors import DeadlineExceeded, RequestError
from certify.service.settings import Settings
from tests.answer_rules import check
from tests.servers import in_process

KEY = b"k" * 32
KINDS: list[tuple[NoiseKind, ...]] = [
    ("laplace",) * 3,
    ("uniform",) * 3,
    ("gaussian", "laplace", "uniform"),
    ("splitting",) * 3,
]


def info_of(*kinds: NoiseKind) -> BackendInfo:
    return replace(FAKE_INFO, noise=kinds, norm="l1")


def refusal(info: BackendInfo, **fields: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        make_plan(CertifyFields.model_validate(fields), info, max_samples_allowed=100_000)
    return caught.value


def image(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def asked(info: BackendInfo, seed: int = 0, key: bytes = KEY, **fields: object) -> dict[str, Any]:
    made = certify(image(seed), CertifyFields.model_validate(fields), FakeBackend(info), Settings(), key)
    return check(asyncio.run(made).model_dump(mode="json"))


def without_what_differs(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in ("id", "timing", "seed_key_fingerprint")}


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_norm_that_the_noise_does_not_certify_is_refused_in_words(kinds, norm):
    for fields in ({"norm": norm}, {"norm": norm, "radius": 0.1}):
        error = refusal(info_of(*kinds), **fields)
        assert error.code == "out_of_range"
        assert error.detail == (
            f"norm: expected l1, the only norm that {' and '.join(dict.fromkeys(kinds))} noise certifies, got {norm}"
        )


def test_the_gaussian_part_of_a_mixed_bundle_still_certifies_l2():
    info = info_of("gaussian", "laplace", "uniform")
    for norm in ("l2", "linf"):
        answer = asked(info, sigmas=[0.25], norm=norm)
        assert (answer["radius_norm"], answer["norm"]) == ("l2", norm)
    assert asked(info, sigmas=[0.25])["norm"] == "l1"


@pytest.mark.parametrize("norm", ["l2", "l1", "linf"])
def test_a_gaussian_answer_has_its_radius_in_every_norm(norm):
    """|d|_2 <= |d|_1, so that the L1 radius is the L2 one."""
    for seed in range(5):
        answer = asked(FAKE_INFO, seed, norm=norm)
        assert (answer["radius_norm"], answer["radius_l1"]) == ("l2", answer["radius"])


def test_a_radius_in_l1_is_met_by_the_same_radius_in_l2():
    answer = asked(FAKE_INFO, 3, norm="l1", radius=0.2)
    assert (answer["norm"], answer["requested_radius"], answer["outcome"]) == ("l1", 0.2, "certified")
    assert answer["radius"] >= 0.2


@pytest.mark.parametrize("kinds", KINDS)
def test_answers_name_noise_and_norm_and_reach_at_most_what_is_in_reach(kinds):
    info = info_of(*kinds)
    most = largest_radius(make_plan(CertifyFields(), info, max_samples_allowed=100_000))
    seen = set()
    for seed in range(12):
        answer = asked(info, seed)
        assert tuple(answer["noise"]) == kinds
        assert (answer["norm"], answer["radius_norm"]) == ("l1", "l1")
        assert answer["radius"] <= most
        seen.add(answer["outcome"])
    assert "certified" in seen


@pytest.mark.parametrize("kinds", KINDS)
def test_the_largest_radius_in_the_hint_is_accepted_and_more_is_not(kinds):
    info = info_of(*kinds)
    error = refusal(info, radius=50.0)
    assert error.code == "radius_unreachable"
    assert "(l1)" in error.detail
    limit = error.extra["max_radius"]
    assert isinstance(limit, float)
    assert (
        0.0
        < limit
        < {"laplace": float(laplace_b(1.0)) * 10, "uniform": 4.0, "gaussian": 4.0, "splitting": 4.0}[kinds[0]]
    )
    make_plan(CertifyFields(radius=limit), info, max_samples_allowed=100_000)
    assert refusal(info, radius=round(limit + 1e-6, 6)).code == "radius_unreachable"


@pytest.mark.parametrize("kinds", KINDS)
def test_the_smallest_budget_in_the_hint_is_accepted_and_one_less_is_not(kinds):
    info = info_of(*kinds)
    error = refusal(info, samples=1)
    smallest = error.extra["min_samples"]
    assert (error.code, smallest) == ("budget_too_small", least_samples(info.cascade, alpha=0.001, info=info))
    assert isinstance(smallest, int)
    assert make_plan(CertifyFields(samples=smallest), info, max_samples_allowed=100_000).samples == smallest
    assert refusal(info, samples=smallest - 1).code == "budget_too_small"


def test_a_method_that_the_noise_does_not_allow_is_refused_in_words():
    assert refusal(info_of(*("laplace",) * 3), method="deterministic").detail == (
        "method: expected sampled, since this bundle's laplace noise is drawn, and only splitting can be counted, "
        "got deterministic"
    )
    assert refusal(FAKE_INFO, method="deterministic").detail.startswith("method: expected sampled")
    assert refusal(info_of(*("splitting",) * 3), method="sampled").detail == (
        "method: expected deterministic, since this bundle's splitting noise is counted, and never drawn, got sampled"
    )
    assert asked(info_of(*("splitting",) * 3), method="deterministic")["method"] == "deterministic"
    assert asked(FAKE_INFO, method="sampled")["method"] == "sampled"


def test_every_sample_is_counted_once_and_the_key_is_no_part_of_it():
    info = info_of(*("splitting",) * 3)
    whole = {sigma: offsets(sigma) for sigma in info.sigmas}
    for seed in range(6):
        answer = asked(info, seed)
        assert (answer["method"], answer["alpha"], answer["samples_used"]) == (
            "deterministic",
            0.0,
            sum(whole.values()),
        )
        for stage in answer["stages"]:
            assert (stage["samples"], stage["pilot_samples"]) == (whole[stage["sigma"]], 0)
            assert stage["p_lower"] == stage["count"] / stage["samples"]
            assert stage["p_rival_upper"] == stage["rival_count"] / stage["samples"]
        again = asked(info, seed, b"another key, of another server!!", alpha=0.01, samples=2_000)
        assert without_what_differs(again) == without_what_differs(answer)


def test_one_scale_by_plurality_is_half_the_lead_in_grey_steps():
    """R = (n_y - n_c) / (2 * 255), and the image at that very distance is not claimed."""
    for seed in range(12):
        answer = asked(info_of(*("splitting",) * 3), seed, sigmas=[0.25])
        (stage,) = answer["stages"]
        lead = stage["count"] - stage["rival_count"]
        assert answer["label"] is not None
        assert lead / 510 - 1.1e-6 <= answer["radius"] < lead / 510


def test_small_calls_count_the_same():
    info = info_of(*("splitting",) * 3)
    whole = asked(info)
    made = certify(image(0), CertifyFields(), FakeBackend(info), Settings(call_samples=64), KEY)
    assert without_what_differs(asyncio.run(made).model_dump(mode="json")) == without_what_differs(whole)


def test_a_deadline_before_the_last_sample_proves_nothing():
    backend = FakeBackend(info_of(*("splitting",) * 3), delay_seconds=0.05)
    with pytest.raises(DeadlineExceeded):
        asyncio.run(certify(image(0), CertifyFields(deadline_ms=60), backend, Settings(), KEY))


def test_a_plan_of_splitting_makes_a_counter_that_asks_for_all():
    plan = make_plan(CertifyFields(), info_of(*("splitting",) * 3), max_samples_allowed=100_000)
    assert isinstance(plan.certifier(), Counter)
    assert (plan.samples, plan.alpha) == (sum(map(offsets, FAKE_INFO.sigmas)), 0.0)


@pytest.mark.anyio
@pytest.mark.parametrize("kinds", [(), *KINDS])
async def test_info_says_which_noise_norm_and_method(kinds):
    info = info_of(*kinds) if kinds else FAKE_INFO
    async with in_process(FakeBackend(info)) as service:
        facts = (await service.client.get("/info")).json()
    assert facts["bundle"]["noise"] == list(kinds or ("gaussian",) * 3)
    assert facts["bundle"]["norms"] == (["l1"] if kinds else ["l2", "linf", "l1"])
    assert facts["defaults"]["norm"] == ("l1" if kinds else "l2")
    assert facts["defaults"]["method"] == ("deterministic" if "splitting" in kinds else "sampled")
    assert facts["limits"]["min_samples"] == least_samples(info.cascade, alpha=0.001, info=info)
