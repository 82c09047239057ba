from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from certify.service.backends.fake import FAKE_INFO, FakeBackend
from certify.service.http.metrics import sigma_label
from certify.service.http.problems import CODES
from tests import pictures
from tests.servers import in_process

pytestmark = pytest.mark.anyio

SIGMAS = [sigma_label(sigma) for sigma in FAKE_INFO.sigmas]


async def series() -> dict[str, float]:
    async with in_process() as service:
        families = text_string_to_metric_families(await service.metrics_text())
        return {
            sample.name + "".join(f"|{value}" for _, value in sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }


async def test_every_series_exists_from_the_start_at_zero() -> None:
    at_start = await series()
    expected = [
        *(f"certify_requests_total|{outcome}|{s}" for outcome in ("certified", "below_radius") for s in SIGMAS),
        "certify_requests_total|abstained|none",
        *(
            f"certify_abstentions_total|{reason}"
            for reason in ("deadline", "rival_at_larger_sigma", "no_stage_confident", "undecided")
        ),
        *(f"certify_stages_total|{outcome}|{s}" for outcome in ("path", "passed", "open") for s in SIGMAS),
        *(f"certify_errors_total|{code}" for code in CODES),
        *(f"certify_certified_radius_count|{s}" for s in SIGMAS),
        *(
            f"certify_abstained_stages_total|{majority}|{reason}|{s}"
            for majority in ("yes", "no")
            for reason in ("deadline", "rival_at_larger_sigma", "no_stage_confident", "undecided")
            for s in SIGMAS
        ),
        *(
            f"certify_answers_by_scales_total|{outcome}|{n}"
            for outcome in ("certified", "below_radius", "abstained")
            for n in range(1, len(SIGMAS) + 1)
        ),
        "certify_samples_used_count",
        "certify_sampling_seconds_count",
        *(f"certify_request_seconds_count|{result}" for result in ("answered", "failed")),
        "certify_queue_wait_seconds_count",
        "certify_queue_depth",
        "certify_in_flight",
        "certify_disconnects_total",
        "certify_no_http_total",
    ]
    for name in expected:
        assert at_start[name] == 0, name


async def test_every_metric_has_the_prefix_and_a_help_text() -> None:
    async with in_process() as service:
        for family in text_string_to_metric_families(await service.metrics_text()):
            assert family.name.startswith(("certify_", "process_"))
            assert family.documentation


async def test_answers_are_counted_and_the_abstention_rate_is_a_ratio_of_counters() -> None:
    outcomes: list[str] = []
    async with in_process() as service:
        before = (await service.metrics_text()).count("\n")
        for seed in range(30):
            response = await service.client.post(
                "/certify",
                files={"image": ("a.png", pictures.png(seed))},
                data={"samples": "1000", "final": "threshold", "threshold": "0.6"},
            )
            outcomes.append(response.json()["outcome"])
        text = await service.metrics_text()
        counted = {"certified": 0.0, "below_radius": 0.0, "abstained": 0.0}
        reasons = stages = 0.0
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "certify_requests_total":
                    counted[sample.labels["outcome"]] += sample.value
                reasons += sample.value if sample.name == "certify_abstentions_total" else 0
                stages += sample.value if sample.name == "certify_stages_total" else 0
        assert counted == {outcome: outcomes.count(outcome) for outcome in counted}
        assert 0 < counted["abstained"] < 30
        assert reasons == counted["abstained"]
        assert stages >= 30
        assert await service.total("certify_certified_radius_count") == counted["certified"]
        assert await service.total("certify_answers_by_scales_total") == 30
        assert await service.total("certify_answers_by_scales_total", scales="3", outcome="abstained") == reasons
        assert await service.metric("certify_samples_used_count") == 30
        assert text.count("\n") == before


async def test_an_abstentions_stages_say_whether_one_class_led() -> None:
    async with in_process() as service:

        async def stages(sigma: str) -> list[float]:
            """[with a majority, without], of twenty abstentions under a threshold that no image reaches."""
            data = {"sigmas": sigma, "threshold": "0.99", "final": "threshold", "samples": "2000"}
            for seed in range(20):
                await service.client.post("/certify", files={"image": pictures.png(seed)}, data=data)
            labels = {"reason": "no_stage_confident", "sigma": sigma_label(float(sigma))}
            name = "certify_abstained_stages_total"
            return [await service.total(name, majority=majority, **labels) for majority in ("yes", "no")]

        # The fake backend favours a class of each image's own, less so as sigma grows.
        assert await stages("0.25") == [20, 0]
        leading, spread = await stages("1.0")
        assert leading + spread == 20 and leading > 0 and spread > 0


async def test_build_and_bundle_are_named() -> None:
    async with in_process() as service:
        info = (await service.client.get("/info")).json()
        text = await service.metrics_text()
        assert f'certify_build_info{{version="{info["version"]}"}} 1.0' in text
        assert f'name="{info["bundle"]["name"]}"' in text
        assert info["bundle"]["digest"] in text


@pytest.mark.parametrize(("sigma", "label"), [(0.25, "0.25"), (1.0, "1"), (0.1234567, "0.1234567")])
def test_a_sigma_is_labelled_as_it_is_written(sigma: float, label: str) -> None:
    assert sigma_label(sigma) == label


async def test_a_failed_request_counts_in_the_time_to_an_answer_and_nothing_that_a_client_chose_does() -> None:
    backend = FakeBackend()
    async with in_process(backend) as service:

        async def ask(**fields: str) -> int:
            form = {"samples": "640", **fields}
            return (await service.client.post("/certify", files={"image": pictures.png()}, data=form)).status_code

        async def counted() -> list[float]:
            name = "certify_request_seconds_count"
            return [await service.total(name, result=result) for result in ("answered", "failed")]

        assert [await ask(), await ask(radius="-1")] == [200, 422]
        backend.delay_seconds = 1
        assert await ask(deadline_ms="10") == 504
        assert await counted() == [1, 0]
        backend.delay_seconds, backend.failing = 0, True
        assert await ask() == 503
        assert (await service.client.get("/readyz")).status_code == 503  # a probe is nobody's request
        assert await service.total("certify_errors_total", code="backend_unavailable") == 2
        assert await counted() == [1, 1]


async def test_the_time_to_an_answer_has_bounds_to_ten_minutes() -> None:
    async with in_process() as service:
        assert await service.total("certify_request_seconds_bucket", result="answered", le="600.0") == 0
        assert 'certify_request_seconds_bucket{le="600.0",result="failed"}' in await service.metrics_text()
