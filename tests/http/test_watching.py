"""POST /v1/certify with Accept: text/event-stream: progress, and then what an unwatched request is answered."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from certify.service.backends.embedded import EmbeddedBackend
from certify.service.backends.fake import FakeBackend
from certify.service.http import streams
from certify.service.http.examples import DIGIT
from tests import pictures
from tests.answer_rules import check
from tests.http.streamed import Json, events_of, facts, lines_of
from tests.servers import InProcess, in_process, real_process

pytestmark = pytest.mark.anyio

ACCEPT = {"Accept": "text/event-stream"}


async def watch(service: InProcess, seed: int = 0, **fields: Any) -> tuple[list[Json], str, Json]:
    """Its progress, and its last event."""
    image = {"image": ("a.png", pictures.png(seed))}
    response = await service.client.post("/v1/certify", files=image, data=fields, headers=ACCEPT)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    *progress, (last, data) = events_of(response.text)
    assert {name for name, _ in progress} <= {"progress"}
    return [each for _, each in progress], last, data


def check_progress(progress: list[Json], answer: Json) -> None:
    """It never falls, ends with the answer, and its levels obey an answer's rules."""
    assert progress[0]["samples"] == 0 and progress[0]["levels"] == []
    for before, after in zip(progress, progress[1:], strict=False):
        assert before["samples"] < after["samples"] <= after["samples_limit"]
        assert before["radius"] <= after["radius"]
    for each in progress:
        assert (each["radius"] > 0) == (each["label"] is not None) == (each["sigma"] is not None)
        assert each["samples"] == sum(level["samples"] + level["pilot_samples"] for level in each["levels"])
        for level in each["levels"]:  # ten classes: all are listed
            assert sum(votes["count"] for votes in level["votes"]) == level["samples"] + level["pilot_samples"]
            counts = [votes["count"] for votes in level["votes"]]
            assert counts == sorted(counts, reverse=True)
    last = progress[-1]
    assert (last["samples"], last["label"]) == (answer["samples_used"], answer["label"])
    assert (last["radius"], last["sigma"]) == (answer["radius"], answer["sigma"])
    stages = [{name: value for name, value in level.items() if name != "votes"} for level in last["levels"]]
    assert stages == answer["stages"]


@pytest.mark.parametrize("fields", [{}, {"radius": "0.2"}, {"sigmas": "0.5"}, {"final": "threshold"}], ids=str)
async def test_a_watched_answer_is_the_unwatched_one_and_its_progress_never_falls(fields: dict[str, str]) -> None:
    async with in_process(FakeBackend(delay_seconds=0.03)) as service:
        for seed in range(3):
            progress, last, answer = await watch(service, seed, samples="4000", **fields)
            assert last == "answer"
            check_progress(progress, check(answer))
            image = {"image": ("a.png", pictures.png(seed))}
            service.backend.delay_seconds = 0.0
            alone = await service.client.post("/v1/certify", files=image, data={"samples": "4000", **fields})
            service.backend.delay_seconds = 0.03
            assert facts(answer) == facts(alone.json())
        assert service.gateway.admission.idle


async def test_a_real_network_that_draws_ahead_is_watched_without_a_change() -> None:
    pytest.importorskip("openvino", reason="needs the network in this process (pip install 'certify[cpu]')")
    backend: Any = EmbeddedBackend("digits", workers=2)
    async with in_process(backend) as service:
        image = {"image": ("a.png", DIGIT)}
        for fields in ({"samples": "1000"}, {"samples": "1000", "radius": "0.3"}):
            response = await service.client.post("/v1/certify", files=image, data=fields, headers=ACCEPT)
            *progress, (last, answer) = events_of(response.text)
            assert last == "answer"
            check_progress([data for _, data in progress], check(answer))
            alone = await service.client.post("/v1/certify", files=image, data=fields)
            batch = await service.client.post("/v1/certify/batch", files=image, data=fields)
            (line,) = lines_of(batch.text)
            assert facts(answer) == facts(alone.json()) == facts(line["answer"])


async def test_at_most_ten_events_come_in_a_second() -> None:
    async with in_process(FakeBackend(delay_seconds=0.002), call_samples=32) as service:
        began = time.monotonic()
        progress, _, answer = await watch(service, samples="6000")
        seconds = time.monotonic() - began
        check_progress(progress, answer)
        assert 2 <= len(progress) <= 2 + seconds / 0.125


async def test_what_a_deadline_cuts_short_ends_with_what_was_proved() -> None:
    class Slowing(FakeBackend):
        """Answers the pilot and some looks, then never again."""

        async def count_votes(self, *args: Any, **kwargs: Any) -> Any:
            if self.calls >= 6:
                await asyncio.sleep(3600)
            return await super().count_votes(*args, **kwargs)

    async with in_process(Slowing()) as service:
        progress, last, answer = await watch(service, samples="20000", alpha="0.00001", deadline_ms="1000")
        assert last == "answer" and 0 < answer["samples_used"] < 20000
        check_progress(progress, check(answer))


async def test_what_is_known_before_a_sample_is_a_plain_problem() -> None:
    async with in_process(max_queued=0, max_running=1) as service:
        for image, fields, status in (
            (pictures.png(), {"samples": "10"}, 422),
            (pictures.png(), {"epsilon": "10"}, 422),
            (b"no image", {}, 415),
            (pictures.png(size=(9, 9)), {}, 422),
        ):
            files = {"image": ("a.png", image)}
            response = await service.client.post("/v1/certify", files=files, data=fields, headers=ACCEPT)
            assert response.status_code == status
            assert response.headers["Content-Type"] == "application/problem+json"
        service.backend.delay_seconds = 3600
        one = asyncio.create_task(watch(service, samples="1000"))
        while service.backend.running == 0:
            await asyncio.sleep(0.001)
        files = {"image": ("a.png", pictures.png())}
        full = await service.client.post("/v1/certify", files=files, headers=ACCEPT)
        assert (full.status_code, full.json()["code"]) == (429, "queue_full") and full.headers["Retry-After"]
        service.gateway.admission.abort()
        progress, last, problem = await one
        assert len(progress) == 1 and (last, problem["code"], problem["status"]) == ("problem", "draining", 503)
        assert problem["retry_after_seconds"] == 1


async def test_what_fails_later_is_the_last_event() -> None:
    async with in_process(FakeBackend(delay_seconds=0.05)) as service:
        watched = asyncio.create_task(watch(service, samples="4000"))
        while service.backend.calls < 3:
            await asyncio.sleep(0.001)
        service.backend.failing = True
        progress, last, problem = await watched
        assert progress and (last, problem["code"]) == ("problem", "backend_unavailable")
        assert problem["retry_after_seconds"] == 5 and problem["timing"]["sampling_seconds"] > 0
        service.backend.failing, service.backend.delay_seconds = False, 3600.0
        _, last, problem = await watch(service, deadline_ms="100")
        assert (last, problem["code"]) == ("problem", "deadline_exceeded")
        assert await service.metric('certify_errors_total{code="deadline_exceeded"}') == 1


async def test_a_signed_answer_is_a_certificate(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="signs (pip install 'certify[signing]')")
    from certify.service.answering.signing import new_key

    (tmp_path / "key").write_text(new_key())
    async with in_process(signing_key_file=str(tmp_path / "key")) as service:
        progress, last, envelope = await watch(service, samples="1000", signed="true")
        assert progress and last == "certificate" and envelope["signatures"]


async def test_comments_come_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SILENT_SECONDS", 0.01)
    async with in_process(FakeBackend(delay_seconds=0.1)) as service:
        image = {"image": ("a.png", pictures.png())}
        response = await service.client.post("/v1/certify", files=image, data={"samples": "1000"}, headers=ACCEPT)
        assert "\n\n: still there\n\n" in response.text
        *progress, (_, answer) = events_of(response.text)
        check_progress([data for _, data in progress], answer)


@pytest.mark.slow
def test_a_watcher_that_leaves_frees_its_place(tmp_path: Path) -> None:
    with real_process(tmp_path / "log", fake_delay_seconds=0.02, max_running=1, max_queued=0) as service:
        asked = {"files": {"image": ("a.png", pictures.png())}, "data": {"samples": "100000", "alpha": "0.00001"}}
        url = f"{service.url}/v1/certify"
        with httpx.stream("POST", url, headers=ACCEPT, timeout=60, **asked) as response:  # type: ignore[arg-type]
            assert next(response.iter_lines()) == "event: progress"
        service.wait_for("certify_disconnects_total", 1)
        service.wait_for("certify_in_flight", 0)
        small = httpx.post(url, files=asked["files"], data={"samples": "1000"}, timeout=60)  # type: ignore[arg-type]
        assert small.status_code == 200
