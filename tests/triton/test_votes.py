"""The mdds model in a real server: the votes are the embedded backend's, whoever else is asking."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from functools import partial

import httpx
import numpy as np
import pytest

pytest.importorskip("torch", reason="the mdds model needs torch (pip install 'certify[torch]')")

from certify.models.bundle import find_bundle, load_manifest
from certify.models.export import MAX_BATCH
from certify.service.answering.certify import certify
from certify.service.answering.evidence import payload_of
from certify.service.answering.images import decode_image
from certify.service.answering.replay import Differs, scope_of, voted_again
from certify.service.answering.schemas import CertifyFields
from certify.service.answering.seeds import key_from_number
from certify.service.backends.embedded import EmbeddedBackend
from certify.service.backends.triton import TritonBackend
from certify.service.settings import load_settings
from tests import pictures
from tests.answer_rules import check
from tests.servers import real_gateway, real_process
from tests.triton.conftest import executed, executions, pending

pytestmark = [pytest.mark.slow, pytest.mark.anyio]


def image(number: int) -> np.ndarray:
    return pictures.tensor(number)


@pytest.fixture
async def embedded():
    backend = EmbeddedBackend("digits", workers=2)
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
async def triton(triton_server):
    backend = TritonBackend([triton_server.url], call_seconds=60)
    await backend.open()
    yield backend
    await backend.close()


async def test_it_says_what_the_embedded_backend_says_of_itself(embedded, triton):
    ours, theirs = triton.info(), embedded.info()
    for name in ("bundle_name", "bundle_digest", "class_names", "input_shape", "sigmas", "thresholds", "final"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert (ours.chunk, ours.grain, ours.runtime) == (theirs.chunk, theirs.grain, theirs.runtime)


async def test_votes_are_the_embedded_backends_alone_and_among_32_in_any_order(embedded, triton):
    sigmas = triton.info().sigmas
    calls = [
        {"sigma": sigmas[n % 3], "seed": 2**64 - 1 - n, "first": 32 * (n % 5), "count": 32 * (1 + (7 * n) % 23)}
        for n in range(32)
    ]
    expected = [(await embedded.count_votes(image(n), **call)).tolist() for n, call in enumerate(calls)]
    for n in (0, 9, 31):
        assert (await triton.count_votes(image(n), **calls[n])).tolist() == expected[n]
    shuffle = random.Random(0)
    for _ in range(3):
        order = list(range(32))
        shuffle.shuffle(order)
        found = await asyncio.gather(*[triton.count_votes(image(n), **calls[n]) for n in order])
        assert [votes.tolist() for votes in found] == [expected[n] for n in order]
    assert [await triton.classify(image(n)) for n in range(8)] == [await embedded.classify(image(n)) for n in range(8)]


async def test_many_small_requests_are_executed_together(triton, triton_server):
    """All that wait when an instance is free. Instances are stopped until all do: no clock has a say."""
    requests = 192  # 64 for each instance, and at least 64 that wait
    calls, runs = executed(triton_server), executions(triton_server)
    stubs = triton_server.stub_pids()
    try:
        for pid in stubs:
            os.kill(pid, signal.SIGSTOP)
        asked = [
            asyncio.create_task(triton.count_votes(image(n), sigma=0.25, seed=n, first=0, count=32))
            for n in range(requests)
        ]
        before, now = -1, 0
        while now < requests - len(stubs) * MAX_BATCH or now != before:  # some have gone to an instance
            await asyncio.sleep(0.1)
            before, now = now, pending(triton_server)
    finally:
        for pid in stubs:
            os.kill(pid, signal.SIGCONT)
    await asyncio.gather(*asked)
    assert executed(triton_server) - calls == requests
    assert executions(triton_server) - runs < requests / 4


@pytest.mark.parametrize("fields", [{}, {"radius": 0.2}, {"samples": 2_000, "final": "threshold"}], ids=str)
def test_the_gateway_gives_the_same_answers_on_both(fields, triton_server, digit, tmp_path):
    answers = []
    for gateway in (
        real_process(tmp_path / "embedded", backend="embedded"),
        real_gateway(tmp_path / "triton", triton_server.url),
    ):
        with gateway as process:
            reply = httpx.post(f"{process.url}/certify", files={"image": digit}, data=fields, timeout=120)
            assert reply.status_code == 200, reply.text
            answers.append({k: v for k, v in check(reply.json()).items() if k not in ("id", "timing")})
    assert answers[0] == answers[1]


@pytest.mark.parametrize("spot", [None, 44])
async def test_a_certificate_of_one_is_drawn_again_on_the_other(spot, embedded, triton, digit):
    """Of the same runtime: a replay needs not the backend that answered."""
    settings, key = load_settings(), key_from_number(7)
    fields = CertifyFields(evidence=True, samples=4_000)
    for asked, other in ((triton, embedded), (embedded, triton)):
        answer = await certify(digit, fields, asked, settings, key)
        payload = json.loads(payload_of(answer.evidence))
        function = payload["function"]
        assert function["bundle"]["version"] == load_manifest(find_bundle("digits")).version
        assert set(function["runtime"]["libraries"]) == ({"numpy", "openvino"} if asked is embedded else set())
        tensor = decode_image(digit, (1, 8, 8), resize=False, max_pixels=64).tensor
        seed_of = partial(scope_of(payload).seed, key)
        assert "drawn again are equal" in await voted_again(payload, tensor, other, seed_of, spot=spot)
        if spot is None:
            level = next(level for level in payload["counts"]["levels"] if level["taken"])
            level["chunks"][-1] = "7:32"
            with pytest.raises(Differs, match="other votes were drawn"):
                await voted_again(payload, tensor, other, seed_of)


BAD = {
    "sigma": ({"SIGMA": 0.3}, "SIGMA: expected one of"),
    "nan sigma": ({"SIGMA": float("nan")}, "SIGMA: expected one of"),
    "first": ({"FIRST": 1}, "first, count: expected multiples of 32"),
    "negative first": ({"FIRST": -32}, "first, count: expected multiples of 32"),
    "count": ({"COUNT": 33}, "first, count: expected multiples of 32"),
    "negative count": ({"COUNT": -32}, "first, count: expected multiples of 32"),
    "bright": ({"IMAGE": 1.5}, "IMAGE: expected finite values"),
    "nan": ({"IMAGE": float("nan")}, "IMAGE: expected finite values"),
    "between grey steps": ({"IMAGE": 0.5}, "image: expected values n / 255"),
    "identity": ({"identity": "sha256:other"}, "identity: this replica runs sha256:"),
}


async def test_a_bad_request_fails_alone_beside_good_ones(triton_server):
    """Raw calls, as another client might make them, all at once, so that they share executions."""
    from tritonclient.grpc import InferInput
    from tritonclient.grpc.aio import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    client = InferenceServerClient(triton_server.url)

    async def ask(changes: dict) -> list[int]:
        values = {"IMAGE": 0.2, "SIGMA": 0.25, "SEED": 2**63 + 1, "FIRST": 0, "COUNT": 32, **changes}
        parameters = {"identity": values.pop("identity")} if "identity" in values else None
        inputs = []
        for name, value in values.items():
            kind, dtype = {
                "IMAGE": ("FP32", np.float32),
                "SIGMA": ("FP64", np.float64),
                "SEED": ("UINT64", np.uint64),
                "FIRST": ("INT64", np.int64),
                "COUNT": ("INT32", np.int32),
            }[name]
            tensor = InferInput(name, [1, 1, 8, 8] if name == "IMAGE" else [1, 1], kind)
            tensor.set_data_from_numpy(np.full([1, 1, 8, 8] if name == "IMAGE" else [1, 1], value, dtype=dtype))
            inputs.append(tensor)
        return (await client.infer("mdds", inputs, parameters=parameters)).as_numpy("VOTES").tolist()

    try:
        good = await ask({})
        assert sum(good[0]) == 32
        cases = [({}, None), *BAD.values()] * 3
        found = await asyncio.gather(*[ask(changes) for changes, _ in cases], return_exceptions=True)
        for (_, message), outcome in zip(cases, found, strict=True):
            if message is None:
                assert outcome == good
            else:
                assert isinstance(outcome, InferenceServerException)
                assert message in outcome.message() and outcome.status() == "StatusCode.INVALID_ARGUMENT"
    finally:
        await client.close()


async def test_a_cancelled_look_stops_the_server_too(triton, triton_server):
    look = asyncio.create_task(triton.count_votes(image(0), sigma=0.25, seed=0, first=0, count=32 * 32_000))
    before = executed(triton_server)
    while executed(triton_server) < before + 3:  # it runs
        await asyncio.sleep(0.05)
    look.cancel()
    with pytest.raises(asyncio.CancelledError):
        await look
    settled = executed(triton_server)
    for _ in range(20):
        await triton.count_votes(image(0), sigma=0.25, seed=0, first=0, count=32)
    # Ours, and of the look's 4,000 calls only what the server had in hand when it was cancelled.
    assert executed(triton_server) < settled + 20 + 10
