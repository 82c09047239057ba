"""Triton Inference Servers over gRPC: the production backend.

A look is cut into slices that are asked of the replicas side by side. A slice is (sigma, seed, first, count), and
votes are a function of it: a call that failed is made again, anywhere, with the same four, and its votes are added
exactly once, when they come. Every call names the bundle and runtime it is meant for, and a server that runs others
refuses it; so a replica that was exchanged under a name can never add a vote.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendUnavailable, QueueFull
from .base import BackendInfo, Runtime, check_range
from .replicas import Replica, Replicas

if TYPE_CHECKING:
    from tritonclient.utils import InferenceServerException

__all__ = ("TritonBackend",)

logger = logging.getLogger(__name__)

MODEL = "mdds"
# 4 micro-batches: 40 ms of digits on one core, beside 1 ms for a call. Longer ones make the requests that share a
# server wait for each other, since one execute() answers all of its requests together.
SLICE_GRAINS = 4
ATTEMPTS = 5
BACKOFF_SECONDS = 0.1  # doubled each time: 1.5 s in all, the time a stub or a connection takes to come back
START_SECONDS = 60.0  # a server on a laptop is ready within 15 s; a pod that finds none by then is better restarted
RETRIED = ("StatusCode.UNAVAILABLE", "StatusCode.INTERNAL")  # INTERNAL: the stub died, or the network failed


class TritonBackend:
    """`urls`: HOST:PORT or dns:///NAME:PORT. `call_seconds`: longest time that one call to a server may take."""

    def __init__(self, urls: Sequence[str], *, call_seconds: float, start_seconds: float = START_SECONDS) -> None:
        self._replicas = Replicas(urls)
        self._call_seconds = call_seconds
        self._start_seconds = start_seconds
        self._info: BackendInfo | None = None
        self._identity = ""
        self._lanes = 1

    async def open(self) -> None:
        """Wait for a server, check that all that can be reached agree, and draw one chunk.

        Raises BackendUnavailable when none is there within start_seconds, or when they do not run the same.
        """
        if self._info is not None:
            return
        try:
            await self._replicas.open()
            facts = await self._first_facts()
            self._info = _info_of(facts)
            self._identity = facts["identity"]
            self._lanes = await self._agree(facts)
            info = self._info
            grey = np.full(info.input_shape, 0.5, dtype=np.float32)
            await self.count_votes(grey, sigma=info.sigmas[0], seed=0, first=0, count=info.chunk)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        self._info = None
        await self._replicas.close()

    def info(self) -> BackendInfo:
        if self._info is None:
            raise BackendUnavailable("the triton backend is not open")
        return self._info

    async def count_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        info = self.info()
        check_range(info, image, sigma, seed, first, count)
        image = np.ascontiguousarray(image)[None].copy()  # the caller may go on with its array
        # One more in flight than there are instances: while a server hands its answer over, it has the next one.
        lanes = min(self._lanes + 1, -(-count // info.grain))
        slices = _slices(first, count, info.grain, lanes)
        total = np.zeros(len(info.class_names), dtype=np.int64)

        async def lane() -> None:
            for low, high in slices:  # shared by the lanes: whichever is free takes the next one
                np.add(total, await self._ask(image, sigma, seed, low, high - low), out=total)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(lanes):
                    group.create_task(lane())
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return total

    async def chunk_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        # The served model answers with sums: a chunk by itself is a request by itself, and pays for its padding.
        info = self.info()
        check_range(info, image, sigma, seed, first, count)
        rows = [
            await self.count_votes(image, sigma=sigma, seed=seed, first=at, count=info.chunk)
            for at in range(first, first + count, info.chunk)
        ]
        return np.stack(rows)

    async def classify(self, image: NDArray[np.float32]) -> int:
        info = self.info()
        # The checks of an image are count_votes' own; the other arguments are the smallest legal ones.
        check_range(info, image, info.sigmas[0], 0, 0, info.chunk)
        image = np.ascontiguousarray(image)[None].copy()
        return int(np.argmax(await self._ask(image, info.sigmas[0], 0, 0, 0)))

    async def _ask(
        self, image: NDArray[np.float32], sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        """One slice's votes, from whichever server gives them. count 0: the plain classifier's one vote."""
        from tritonclient.utils import InferenceServerException

        for attempt in range(ATTEMPTS):
            with self._replicas.choose() as replica:
                try:
                    votes = await self._infer(replica, image, sigma, seed, first, count)
                    return self._checked(votes, count)
                except InferenceServerException as error:
                    last = self._failed(replica, error)
            if attempt < ATTEMPTS - 1:
                await asyncio.sleep(BACKOFF_SECONDS * 2**attempt)
        raise last

    async def _infer(
        self, replica: Replica, image: NDArray[np.float32], sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        from tritonclient.grpc import InferInput

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
        answer = await replica.client.infer(
            MODEL,
            inputs,
            # The first is how long it may wait in the server's queue, the second gRPC's deadline for all of it.
            timeout=int(self._call_seconds * 1_000_000),
            client_timeout=self._call_seconds,
            parameters={"identity": self._identity},
        )
        votes = answer.as_numpy("VOTES")
        return np.zeros(0, dtype=np.int64) if votes is None else votes.reshape(-1)

    def _checked(self, votes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        classes = len(self.info().class_names)
        if votes.dtype != np.int64 or len(votes) != classes or votes.min() < 0 or int(votes.sum()) != (count or 1):
            raise BackendUnavailable(f"triton answered impossible votes for {count} samples of {classes} classes")
        return votes

    def _failed(self, replica: Replica, error: InferenceServerException) -> Exception:
        """What to raise if this was the last attempt. Raises at once what asking again cannot mend."""
        status, message = str(error.status()), str(error.message())
        if "maximum queue size" in message:
            return QueueFull(f"triton's queue is full at {replica.url}", retry_after_seconds=1)
        if message.startswith("identity:"):
            replica.refuse(message)
            return BackendUnavailable(f"triton at {replica.url} runs another bundle or runtime: {message}")
        failure = BackendUnavailable(f"triton at {replica.url} failed: {status.removeprefix('StatusCode.')}: {message}")
        replica.rest()
        if status not in RETRIED and "not at ready state" not in message and "unknown model" not in message:
            raise failure from error
        logger.info("triton at %s: %s %s; asking again", replica.url, status, message)
        return failure

    async def _first_facts(self) -> dict[str, Any]:
        """The facts of whichever server has them first."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._start_seconds
        while True:
            problems = []
            for replica in self._replicas:
                try:
                    return await self._facts(replica)
                except BackendUnavailable as error:
                    problems.append(str(error))
            if loop.time() >= end:
                raise BackendUnavailable("; ".join(problems) or "triton's name has no address")
            await asyncio.sleep(0.5)

    async def _facts(self, replica: Replica) -> dict[str, Any]:
        """What the model's configuration says of bundle and runtime."""
        from tritonclient.utils import InferenceServerException

        try:
            config = await replica.client.get_model_config(MODEL, as_json=True, client_timeout=5.0)
            facts: dict[str, Any] = json.loads(config["config"]["parameters"]["certify"]["string_value"])
        except InferenceServerException as error:
            raise BackendUnavailable(f"triton at {replica.url}: {error.message()}") from error
        except (KeyError, ValueError) as error:
            raise BackendUnavailable(
                f"triton at {replica.url}: its model {MODEL} is none that `certify bundles export` wrote"
            ) from error
        return facts

    async def _agree(self, facts: dict[str, Any]) -> int:
        """Instances in all. Raises BackendUnavailable when a server that can be reached runs something else."""
        instances = 0
        for replica in self._replicas:
            try:
                theirs = await self._facts(replica)
            except BackendUnavailable as error:
                logger.warning("%s; going on without it for now", error)
                continue
            if theirs["identity"] != facts["identity"]:
                names = [f"{f['bundle']['digest']} on {f['runtime']}" for f in (facts, theirs)]
                raise BackendUnavailable(
                    f"triton at {replica.url} runs another bundle or runtime: expected {names[0]}, got {names[1]}"
                )
            instances += int(theirs["instances"])
        return max(1, instances)


def _slices(first: int, count: int, grain: int, lanes: int) -> Iterator[tuple[int, int]]:
    """[first, first + count) cut at multiples of `grain`, as (low, high): long ones first, short ones at the end.

    The lanes so end at about the same time, whatever the number of grains (guided self-scheduling).
    """
    end = first + count
    while first < end:
        grains = max(1, min(SLICE_GRAINS, (end - first) // (grain * 2 * lanes)))
        high = min(end, first - first % grain + grains * grain)
        yield first, high
        first = high


def _info_of(facts: dict[str, Any]) -> BackendInfo:
    try:
        channels, height, width = facts["input_shape"]
        return BackendInfo(
            kind="triton",
            bundle_name=facts["bundle"]["name"],
            bundle_digest=facts["bundle"]["digest"],
            class_names=tuple(facts["classes"]),
            input_shape=(channels, height, width),
            sigmas=tuple(facts["sigmas"]),
            thresholds=tuple(facts["thresholds"]),
            final=facts["final"],
            chunk=facts["chunk"],
            grain=facts["grain"],
            runtime=Runtime(**facts["runtime"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BackendUnavailable(
            f"triton's model {MODEL} was exported by another version of certify: {error}"
        ) from error
