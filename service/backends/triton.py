"""Triton Inference Servers over gRPC: the production backend.

A look is cut into slices that are asked of the replicas side by side. A slice is (sigma, seed, first, count), and
votes are a function of it: a call that failed is made again, anywhere, with the same four, and its votes are added
exactly once, when they come. Every call names the bundle and runtime it is meant for, and a server that runs others
refuses it: a replica that was exchanged under a name never adds a vote.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import tracing
from ..errors import BackendUnavailable, QueueFull
from .base import BackendInfo, check_range, check_votes
from .replicas import Abandoned, Replica, Replicas, Resolve
from .triton_facts import MODEL, Facts, ask_facts

if TYPE_CHECKING:
    from tritonclient.utils import InferenceServerException

__all__ = ("TritonBackend",)

logger = logging.getLogger(__name__)

# 4 micro-batches: 40 ms of digits on one core, beside 1 ms for a call. Longer ones make the requests that share a
# server wait for each other, since one execute() answers all of its requests together.
SLICE_GRAINS = 4
ATTEMPTS = 5
BACKOFF_SECONDS = 0.1  # doubled each time: 1.5 s in all, the time a stub or a connection takes to come back
START_SECONDS = 60.0  # for a command: a server on a laptop is ready within 15 s
WATCH_SECONDS = 5.0  # how soon a new, lost or exchanged server is noticed; a look-up and a small call each cost nothing
_METHOD = "inference.GRPCInferenceService/ModelInfer"


class TritonBackend:
    """Servers that all run one bundle on one runtime: the identity that was found when it was opened."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        call_seconds: float,
        start_seconds: float = START_SECONDS,
        watch_seconds: float = WATCH_SECONDS,
        resolve: Resolve | None = None,
    ) -> None:
        """urls: HOST:PORT or dns:///NAME:PORT. call_seconds: longest time that one call to a server may take.

        start_seconds: how long open() waits for a server; 0: it tries once. watch_seconds: from one round of looking
        names up and asking servers who they are to the next. resolve: see Replicas.
        """
        self._replicas = Replicas(urls, leave_seconds=call_seconds, resolve=resolve)
        self._call_seconds = call_seconds
        self._start_seconds = start_seconds
        self._watch_seconds = watch_seconds
        self._served: Facts | None = None
        self._lanes = 1
        self._outdated = False
        self._watcher: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Wait for a server, check that all that can be reached agree, and draw one chunk.

        Raises BackendUnavailable when none is there within start_seconds, or when they do not run the same.
        """
        if self._served is not None:
            return
        try:
            self._served = await self._agreed()
            info = self._served.info
            grey = np.full(info.input_shape, 0.2, dtype=np.float32)  # 51 / 255
            await self.count_votes(grey, sigma=info.sigmas[0], seed=0, first=0, count=info.chunk)
        except BaseException:
            await self.close()
            raise
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        self._served, self._outdated = None, False
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        await self._replicas.close()

    def info(self) -> BackendInfo:
        return self._facts().info

    def outdated(self) -> bool:
        return self._outdated

    async def count_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        return await self._count(self._facts(), image, sigma, seed, first, count)

    async def chunk_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        # The served model answers with sums: a chunk by itself is a request by itself, and pays for its padding.
        served = self._facts()
        check_range(served.info, image, sigma, seed, first, count)
        chunk = served.info.chunk
        rows = [await self._count(served, image, sigma, seed, at, chunk) for at in range(first, first + count, chunk)]
        return np.stack(rows)

    async def classify(self, image: NDArray[np.float32]) -> int:
        served = self._facts()
        # The checks of an image are count_votes' own; the other arguments are the smallest legal ones.
        check_range(served.info, image, served.info.sigmas[0], 0, 0, served.info.chunk)
        image = np.ascontiguousarray(image)[None].copy()
        return int(np.argmax(await self._ask(served, image, served.info.sigmas[0], 0, 0, 0)))

    def _facts(self) -> Facts:
        if self._served is None:
            raise BackendUnavailable("the triton backend is not open")
        return self._served

    async def _count(
        self, served: Facts, image: NDArray[np.float32], sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        """count_votes, of the bundle that `served` names whatever is served meanwhile."""
        info = served.info
        check_range(info, image, sigma, seed, first, count)
        image = np.ascontiguousarray(image)[None].copy()  # the caller may go on with its array
        # One more in flight than there are instances: while a server hands its answer over, it has the next one.
        lanes = min(self._lanes + 1, -(-count // info.grain))
        slices = _slices(first, count, info.grain, lanes)
        total = np.zeros(len(info.class_names), dtype=np.int64)

        async def lane() -> None:
            for low, high in slices:  # shared by the lanes: whichever is free takes the next one
                np.add(total, await self._ask(served, image, sigma, seed, low, high - low), out=total)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(lanes):
                    group.create_task(lane())
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        check_votes(total, info, count)
        return total

    async def _ask(
        self, served: Facts, image: NDArray[np.float32], sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        """One slice's votes, from whichever server gives them. count 0: the plain classifier's one vote."""
        from tritonclient.utils import InferenceServerException

        for attempt in range(ATTEMPTS):
            if served is not self._served:  # a call that outlived close() must not judge the servers of another open()
                raise BackendUnavailable("the triton backend was closed during the call")
            replica = self._replicas.choose()
            try:
                votes = await self._infer(served, replica, image, sigma, seed, first, count)
            except (InferenceServerException, Abandoned) as error:
                last = _failed(replica, error)
            else:
                check_votes(votes, served.info, count or 1)
                return votes
            if attempt < ATTEMPTS - 1:
                await asyncio.sleep(BACKOFF_SECONDS * 2**attempt)
        raise last

    async def _infer(
        self,
        served: Facts,
        replica: Replica,
        image: NDArray[np.float32],
        sigma: float,
        seed: int,
        first: int,
        count: int,
    ) -> NDArray[np.int64]:
        from tritonclient.grpc import InferInput
        from tritonclient.utils import InferenceServerException

        inputs = []
        for name, kind, value in (
            ("IMAGE", "FP32", image),
            ("SIGMA", "FP64", np.array([[sigma]], dtype=np.float64)),
            ("SEED", "UINT64", np.array([[seed]], dtype=np.uint64)),
            ("FIRST", "INT64", np.array([[first]], dtype=np.int64)),
            ("COUNT", "INT32", np.array([[count]], dtype=np.int32)),
        ):
            tensor = InferInput(name, list(value.shape), kind)
            tensor.set_data_from_numpy(value)
            inputs.append(tensor)
        with _call_span(replica) as current:
            try:
                answer = await replica.ask(
                    replica.client.infer(
                        MODEL,
                        inputs,
                        # The first is how long it may wait in the server's queue, the second gRPC's deadline for all.
                        timeout=int(self._call_seconds * 1_000_000),
                        client_timeout=self._call_seconds,
                        parameters={"identity": served.identity},
                        headers=tracing.outgoing(),
                    )
                )
            except InferenceServerException as error:
                current.set({"rpc.response.status_code": _status(error)})
                current.fail(_status(error))
                raise
            current.set({"rpc.response.status_code": "OK"})
        votes = answer.as_numpy("VOTES")
        return np.zeros(0, dtype=np.int64) if votes is None else votes.reshape(-1)

    async def _agreed(self) -> Facts:
        """The facts of every server that can be reached. Raises BackendUnavailable, with the reason."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._start_seconds
        while True:
            known, lost = await self._ask_all()
            if known:
                break
            if loop.time() >= end:
                raise BackendUnavailable("; ".join(map(str, lost.values())) or "triton's name has no address")
            await asyncio.sleep(0.5)
        served = next(iter(known.values()))
        for replica, theirs in known.items():
            if theirs.identity != served.identity:
                raise BackendUnavailable(
                    f"triton at {replica.url} runs another bundle or runtime: expected {served}, got {theirs}"
                )
        for problem in lost.values():
            logger.warning("%s; going on without it for now", problem)
        self._settle(served, known, lost)
        return served

    async def _ask_all(self) -> tuple[dict[Replica, Facts], dict[Replica, BackendUnavailable]]:
        """Look the names up and ask every server who it is: who answered, and what the others failed of."""
        await self._replicas.resolve()
        replicas = list(self._replicas)
        answers = await asyncio.gather(*map(_facts_or_problem, replicas))
        known = {r: facts for r, facts in zip(replicas, answers, strict=True) if isinstance(facts, Facts)}
        lost = {r: why for r, why in zip(replicas, answers, strict=True) if isinstance(why, BackendUnavailable)}
        return known, lost

    async def _watch(self) -> None:
        """Round after round, until cancelled."""
        while self._served is not None:
            await asyncio.sleep(self._watch_seconds)
            try:
                self._settle(self._served, *await self._ask_all())
            except Exception:  # a watch that ended would be a lost server for ever
                logger.exception("triton: cannot look after the servers; trying again")

    def _settle(self, served: Facts, known: dict[Replica, Facts], lost: dict[Replica, BackendUnavailable]) -> None:
        """Ask those that run what is served; leave the lost alone, and have their calls answered by others."""
        ours = [replica for replica, facts in known.items() if facts.identity == served.identity]
        for replica, facts in known.items():
            if facts.identity == served.identity:
                replica.welcome()
            else:
                replica.refuse(f"it runs {facts}, the others {served}")
        for replica, problem in lost.items():
            replica.rest(2 * self._watch_seconds)  # until the round after the next, or until it answers one
            if ours and replica.in_flight:
                logger.warning("%s; what it was asked is asked of others", problem)
                replica.abandon()
        if ours:
            self._lanes = max(1, sum(known[replica].instances for replica in ours))
        if (outdated := bool(known) and not ours) != self._outdated:
            logger.warning("triton: every server that can be reached runs %s", "another bundle" if outdated else served)
        self._outdated = outdated


async def _facts_or_problem(replica: Replica) -> Facts | BackendUnavailable:
    try:
        return await ask_facts(replica)
    except BackendUnavailable as problem:
        return problem


def _failed(replica: Replica, error: InferenceServerException | Abandoned) -> Exception:
    """What to raise if this was the last attempt."""
    if isinstance(error, Abandoned):
        replica.rest()
        return BackendUnavailable(f"triton: {error}")
    status, message = _status(error), str(error.message())
    if "maximum queue size" in message:
        return QueueFull(f"triton's queue is full at {replica.url}", retry_after_seconds=1)
    if message.startswith("identity:"):
        replica.refuse(message)
        return BackendUnavailable(f"triton at {replica.url} runs another bundle or runtime: {message}")
    replica.rest()
    logger.info("triton at %s: %s %s; asking again", replica.url, status, message)
    return BackendUnavailable(f"triton at {replica.url} failed: {status}: {message}")


def _status(error: InferenceServerException) -> str:
    """gRPC's word for it: UNAVAILABLE."""
    return str(error.status()).removeprefix("StatusCode.")


def _call_span(replica: Replica) -> AbstractContextManager[tracing.Span]:
    """https://opentelemetry.io/docs/specs/semconv/rpc/grpc/"""
    host, _, port = replica.url.rpartition(":")
    known: dict[str, tracing.Value] = {"rpc.system.name": "grpc", "rpc.method": _METHOD}
    known |= {"server.address": host.strip("[]"), "server.port": int(port)}
    return tracing.span(_METHOD, known, kind="client")


def _slices(first: int, count: int, grain: int, lanes: int) -> Iterator[tuple[int, int]]:
    """[first, first + count) cut at multiples of `grain`, as (low, high): long ones first, short ones at the end.

    The lanes then end at about the same time, whatever the number of grains (guided self-scheduling).
    """
    end = first + count
    while first < end:
        grains = max(1, min(SLICE_GRAINS, (end - first) // (grain * 2 * lanes)))
        high = min(end, first - first % grain + grains * grain)
        yield first, high
        first = high
