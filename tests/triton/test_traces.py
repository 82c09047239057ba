"""Traces across the calls to a real server: what a relay before it finds in the calls' metadata."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

pytest.importorskip("torch", reason="the mdds model needs torch (pip install 'certify[torch]')")
pytest.importorskip("opentelemetry.sdk", reason="needs pip install 'certify[tracing]'")


from certify.service import tracing
from certify.service.backends.triton import TritonBackend
from certify.service.errors import BackendUnavailable
from tests import pictures

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
TRACE = "a" * 32
CALL = "inference.GRPCInferenceService/ModelInfer"


class Relay(grpc.GenericRpcHandler):
    """Hands every call on to a server, and keeps what traces it named."""

    def __init__(self, url: str) -> None:
        self.channel = grpc.insecure_channel(url)
        self.seen: list[str | None] = []
        self.broken = False

    def service(self, details: Any) -> Any:
        if details.method == f"/{CALL}":
            self.seen.append(dict(details.invocation_metadata).get("traceparent"))

        def forward(request: bytes, context: Any) -> Any:
            if self.broken:
                context.abort(grpc.StatusCode.INTERNAL, "a broken relay")
            return self.channel.unary_unary(details.method)(request, timeout=60)

        return grpc.unary_unary_rpc_method_handler(forward)


@contextlib.contextmanager
def relay_to(url: str) -> Iterator[tuple[Relay, str]]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    handler = Relay(url)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield handler, f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
        handler.channel.close()


async def test_each_call_has_a_span_that_the_server_is_told_of(triton_server, spans):
    with relay_to(triton_server.url) as (relay, url):
        backend = TritonBackend([url], call_seconds=60)
        await backend.open()
        try:
            spans.clear()
            relay.seen.clear()
            call = {"sigma": backend.info().sigmas[0], "seed": 1, "first": 0, "count": 1024}
            with tracing.span("look"):
                votes = await backend.count_votes(pictures.tensor(0), **call)
            *calls, look = spans.get_finished_spans()
            assert len(calls) >= 2 and int(votes.sum()) == 1024
            own = [each.context for each in calls]
            told = [f"00-{each.trace_id:032x}-{each.span_id:016x}-{each.trace_flags:02x}" for each in own]
            assert sorted(told) == sorted(map(str, relay.seen))
            for each in calls:
                assert (each.name, each.kind.name, each.parent.span_id) == (CALL, "CLIENT", look.context.span_id)
                assert dict(each.attributes) == {
                    "rpc.system.name": "grpc",
                    "rpc.method": CALL,
                    "rpc.response.status_code": "OK",
                    "server.address": "127.0.0.1",
                    "server.port": int(url.rpartition(":")[2]),
                }
            spans.clear()
            relay.broken = True
            with pytest.raises(BackendUnavailable):
                await backend.count_votes(pictures.tensor(0), **{**call, "count": 64})
            failed = spans.get_finished_spans()
            assert {each.attributes["rpc.response.status_code"] for each in failed} == {"INTERNAL"}
            assert {each.attributes["error.type"] for each in failed} == {"INTERNAL"}
            assert {each.status.status_code.name for each in failed} == {"ERROR"}
        finally:
            await backend.close()


async def test_without_spans_of_ours_a_callers_traceparent_goes_along_and_changes_no_vote(triton_server):
    with relay_to(triton_server.url) as (relay, url):
        backend = TritonBackend([url], call_seconds=60)
        await backend.open()
        try:
            call = {"sigma": backend.info().sigmas[0], "seed": 1, "first": 0, "count": 64}
            votes = (await backend.count_votes(pictures.tensor(0), **call)).tolist()
            assert set(relay.seen) == {None}
            relay.seen.clear()
            caller = f"00-{TRACE}-{'b' * 16}-01"
            tracing.follow({"traceparent": caller})
            assert (await backend.count_votes(pictures.tensor(0), **call)).tolist() == votes
            assert set(relay.seen) == {caller}
        finally:
            tracing.follow({})
            await backend.close()
