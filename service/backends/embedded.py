"""The network in this process: worker threads of its own behind the protocol of `base`.

What computes is imported inside functions, so that a gateway without an engine can import this module.

Fairness with next to no scheduler: a request is cut into slices and never has more than one for each thread in the
workers' first-in-first-out queue. Requests take turns slice by slice: a short one waits for the slices ahead of it, not
for a long request to end, and a cancelled one leaves at most its running slices behind. One whose calls are of a slice
or two finds its thread again at the next (workers.py). A slice is one micro-batch: a longer one would leave threads
idle longer at the end of each look. A thread for which nobody else waits goes on with the next slice by itself: a
micro-batch of digits takes a few milliseconds, and going by way of the event loop would add one. Memory does not grow
with `count`: slices are cut as they are needed. Draws ahead wait in a queue of their own, for threads that would be
idle.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...models.noise import GENERATOR
from ...models.ranges import cut
from ...models.remote.limits import Limits
from ..errors import BackendUnavailable, BundleError, RemoteError
from .base import BackendInfo, Runtime, check_range
from .workers import Call, Workers

if TYPE_CHECKING:
    from ...models.engines import Elsewhere
    from ...models.pipeline import Pipeline
    from ...models.runtime import RuntimeOptions

__all__ = ("EmbeddedBackend",)

T = TypeVar("T")


class EmbeddedBackend:
    """The sampler of models.pipeline behind the contract."""

    def __init__(
        self,
        bundle: str | Path = "digits",
        *,
        workers: int | None = None,
        device: str = "cpu",
        engine: str = "auto",
        micro_batch: int | None = None,
        remote: Limits | None = None,
    ) -> None:
        """bundle: a shipped bundle's name or a folder. workers: micro-batches at once; None = one a core.

        device, engine, micro_batch, remote: as for models.runtime.options_for.
        """
        if workers is not None and workers < 1:
            raise ValueError(f"workers: expected at least 1, got {workers}")
        self._bundle = bundle
        self._workers = workers
        self._device = device
        self._engine = engine
        self._micro_batch = micro_batch
        self._remote = remote or Limits()
        self._pool: Workers | None = None
        self._pipeline: Pipeline | None = None
        self._info: BackendInfo | None = None
        self._elsewhere: Elsewhere | None = None  # the engine, if a part of it runs elsewhere
        self._lanes = 1  # threads of the pool

    async def open(self) -> None:
        """Load and verify the bundle and run it once. Raises BundleError, or BackendUnavailable without an engine."""
        if self._pool is not None:
            return
        with _translated():
            from ...models.runtime import limit_threads, options_for, usable_cores

            self._workers = self._workers or usable_cores()
            options = await asyncio.to_thread(
                options_for, self._device, self._engine,
                bundle=self._bundle, micro_batch=self._micro_batch, workers=self._workers, remote=self._remote,
            )  # fmt: skip
            self._lanes = options.callers
            start = partial(limit_threads, options.engine)
            # Threads that wait for a remote classifier do not wait for each other.
            busy = self._lanes if options.remote else self._workers
            pool = Workers(self._lanes, busy=busy, name="certify-sampler", start=start)
        try:
            loading = pool.submit(partial(self._load, options), call=Call(id(self), short=False))
            self._pipeline = await asyncio.wrap_future(loading)
        except BaseException:
            pool.close(wait=False)
            raise
        self._pool = pool
        self._elsewhere = _elsewhere(self._pipeline)
        self._info = _info_of(self._pipeline)

    async def close(self) -> None:
        """Drop what waits, let the running slices end, release the networks; a second call does nothing."""
        elsewhere, self._elsewhere = self._elsewhere, None
        pool, self._pool, self._pipeline, self._info = self._pool, None, None, None
        if elsewhere is not None:
            await asyncio.to_thread(elsewhere.close)
        if pool is not None:
            await asyncio.to_thread(pool.close)

    @property
    def workers(self) -> int:
        """Micro-batches computed at once. Legal only after open(), as is info()."""
        self.info()
        assert self._workers is not None
        return self._workers

    def draws_a_second(self) -> float | None:
        """About, of all workers together, by what the first micro-batch took; None where that was not measured."""
        assert self._pipeline is not None
        seconds = self._pipeline.batch_seconds
        return None if not seconds else self.workers * self._pipeline.micro_batch / seconds

    def info(self) -> BackendInfo:
        if self._info is None:
            raise BackendUnavailable("the embedded backend is not open")
        return self._info

    def outdated(self) -> bool:
        # Asked at each request: what runs here is what was loaded.
        return self._elsewhere is not None and self._elsewhere.outdated

    def _ready(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> tuple[BackendInfo, Pipeline, NDArray[np.float32]]:
        """What a call computes with, the image as its own. Raises ValueError as check_range does."""
        info, pipeline = self.info(), self._pipeline
        check_range(info, image, sigma, seed, first, count)
        assert pipeline is not None
        return info, pipeline, _own(image)

    async def count_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        requester = id(image)
        info, pipeline, image = self._ready(image, sigma=sigma, seed=seed, first=first, count=count)
        total = np.zeros(len(info.class_names), dtype=np.int64)

        def work(low: int, high: int) -> NDArray[np.int64]:
            return pipeline.votes(image, sigma=sigma, seed=seed, first=low, count=high - low)

        def take(low: int, high: int, votes: NDArray[np.int64]) -> None:
            np.add(total, votes, out=total)  # integers sum to the same in any order

        await self._in_slices(requester, first, count, work, take)
        return total

    async def chunk_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        requester = id(image)
        info, pipeline, image = self._ready(image, sigma=sigma, seed=seed, first=first, count=count)
        rows = np.zeros((count // info.chunk, len(info.class_names)), dtype=np.int64)

        def work(low: int, high: int) -> NDArray[np.int64]:
            return pipeline.chunk_votes(image, sigma=sigma, seed=seed, first=low, count=high - low)

        def take(low: int, high: int, votes: NDArray[np.int64]) -> None:
            rows[(low - first) // info.chunk : (high - first) // info.chunk] = votes

        await self._in_slices(requester, first, count, work, take)
        return rows

    async def _in_slices(
        self,
        requester: int,
        first: int,
        count: int,
        work: Callable[[int, int], NDArray[np.int64]],
        take: Callable[[int, int, NDArray[np.int64]], None],
    ) -> None:
        """take(low, high, work(low, high)) for each slice, on the pool: `work` side by side, `take` one by one.

        requester: the same for all calls of one image.
        """
        assert self._pipeline is not None and self._pool is not None
        pool, size = self._pool, self._pipeline.micro_batch
        slices, number = cut(first, count, size), -(-(first % size + count) // size)
        call = Call(requester, short=number <= self._lanes)
        turn, given_up = threading.Lock(), threading.Event()

        def some() -> bool:
            """Slices until none is left or wanted (True), or a thread is wanted by somebody else or by close()."""
            while not given_up.is_set():
                with turn:
                    low, high = next(slices, (0, 0))
                if low == high:
                    return True
                votes = work(low, high)
                with turn:
                    take(low, high, votes)
                if pool.wanted(call):
                    return False
            return True

        async def lane(work: Future[bool]) -> None:
            while not await asyncio.wrap_future(work):
                work = self._submit(some, call)

        # Lanes share one iterator: whichever is free takes the next slice. All are in the queue before this is awaited:
        # draws ahead come after them.
        begun = [self._submit(some, call) for _ in range(min(self._lanes, number))]
        try:
            if len(begun) == 1:
                await lane(begun[0])
                return
            async with asyncio.TaskGroup() as lanes:
                for work_begun in begun:
                    lanes.create_task(lane(work_begun))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            given_up.set()

    async def classify(self, image: NDArray[np.float32]) -> int:
        info = self.info()
        # The checks of an image are count_votes' own; the other arguments are the smallest legal ones.
        call = Call(id(image), short=True)
        _, pipeline, image = self._ready(image, sigma=info.sigmas[0], seed=0, first=0, count=info.chunk)
        return await asyncio.wrap_future(self._submit(partial(pipeline.classify, image), call))

    async def pictures(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        # A few draws of one look, whatever `count` is: the chunk stands for it among the checks.
        call = Call(id(image), short=True)
        _, pipeline, image = self._ready(image, sigma=sigma, seed=seed, first=0, count=self.info().chunk)
        work = partial(pipeline.pictures, image, sigma=sigma, seed=seed, count=count)
        return await asyncio.wrap_future(self._submit(work, call))

    def width(self) -> int:
        # What is drawn ahead may be in vain, and a remote classifier is paid for it.
        return 1 if self._elsewhere else self.workers

    def draw_ahead(self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int) -> _Ahead:
        call = Call(id(image), short=True)
        _, pipeline, image = self._ready(image, sigma=sigma, seed=seed, first=first, count=count)
        assert self._pool is not None
        work = partial(pipeline.votes, image, sigma=sigma, seed=seed, first=first, count=count)
        return _Ahead(self._pool, self._submit(work, call, ahead=True))

    def _submit(self, work: Callable[[], T], call: Call, *, ahead: bool = False) -> Future[T]:
        """Run `work` in the pool. Cancelling drops it if it has not begun; a slice that runs is not interrupted."""

        def translated() -> T:
            with _translated():
                return work()

        if self._pool is None:
            raise BackendUnavailable("the embedded backend was closed")
        return self._pool.submit(translated, call=call, ahead=ahead)

    def _load(self, options: RuntimeOptions) -> Pipeline:
        with _translated():
            from ...models.runtime import load_pipeline

            return load_pipeline(self._bundle, options)


class _Ahead:
    """One piece that is drawn when a thread would idle."""

    def __init__(self, pool: Workers, future: Future[NDArray[np.int64]]) -> None:
        self._pool = pool
        self._future = future

    async def votes(self) -> NDArray[np.int64]:
        self._pool.promote(self._future)
        return await asyncio.wrap_future(self._future)

    def drop(self) -> bool:
        return not self._future.cancel()


def _own(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy: the caller may go on with its array while threads read this one."""
    return np.ascontiguousarray(image).copy()


def _elsewhere(pipeline: Pipeline) -> Elsewhere | None:
    from ...models.engines import Elsewhere

    return pipeline.engine if isinstance(pipeline.engine, Elsewhere) else None


def _info_of(pipeline: Pipeline) -> BackendInfo:
    from ...models.engines import libraries_of

    manifest, engine = pipeline.manifest, pipeline.engine
    return BackendInfo(
        kind="embedded",
        bundle_name=manifest.name,
        bundle_digest=manifest.digest,
        bundle_version=manifest.version,
        class_names=manifest.classes,
        input_shape=manifest.input_shape,
        sigmas=manifest.sigmas,
        thresholds=manifest.thresholds,
        final=manifest.final,
        chunk=manifest.chunk,
        grain=pipeline.micro_batch,
        runtime=Runtime(generator=GENERATOR, device=engine.device, engine=engine.name, dtype=engine.dtype),
        noise=manifest.noise,
        norm=manifest.norm,
        libraries=tuple(libraries_of(engine.name).items()),
    )


@contextmanager
def _translated() -> Iterator[None]:
    """The one place where foreign exceptions become the service's."""
    try:
        yield
    except BundleError:
        raise
    except RemoteError as error:
        raise BackendUnavailable(str(error)) from error
    except ImportError as error:
        raise BackendUnavailable(
            f"the embedded backend needs openvino (pip install 'certify[cpu]'), or torch (certify[torch]): {error}"
        ) from error
    except Exception as error:
        raise BackendUnavailable(f"the embedded backend failed: {type(error).__name__}: {error}") from error
