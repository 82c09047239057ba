"""The network in this process: worker threads of its own behind the protocol of `base`.

What computes is imported inside functions, so that a gateway without an engine can import this module.

Fairness without a scheduler: a request is cut into slices and never has more than one for each thread in the pool's
first-in-first-out queue. Requests take turns slice by slice: a short one waits for the slices ahead of it, not for a
long request to end, and a cancelled one leaves at most its running slices behind. A slice is one micro-batch: a longer
one would leave threads idle longer at the end of each look. A thread for which nobody else waits goes on with the next
slice by itself: a micro-batch of digits takes a few milliseconds, and going by way of the event loop would add one.
Memory does not grow with `count`: slices are cut as they are needed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...models.ranges import cut
from ..errors import BackendUnavailable, BundleError
from .base import BackendInfo, Runtime, check_range

if TYPE_CHECKING:
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
    ) -> None:
        """bundle: a shipped bundle's name or a folder. workers: micro-batches at once; None = one a core.

        device, engine, micro_batch: as for models.runtime.options_for.
        """
        if workers is not None and workers < 1:
            raise ValueError(f"workers: expected at least 1, got {workers}")
        self._bundle = bundle
        self._workers = workers
        self._device = device
        self._engine = engine
        self._micro_batch = micro_batch
        self._pool: ThreadPoolExecutor | None = None
        self._pipeline: Pipeline | None = None
        self._info: BackendInfo | None = None
        self._lanes = 1  # threads of the pool
        self._waiting = 0  # calls in the pool's queue that no thread has begun
        self._waiting_lock = threading.Lock()

    async def open(self) -> None:
        """Load and verify the bundle and run it once. Raises BundleError, or BackendUnavailable without an engine."""
        if self._pool is not None:
            return
        with _translated():
            from ...models.runtime import limit_threads, options_for, usable_cores

            self._workers = self._workers or usable_cores()
            options = await asyncio.to_thread(
                options_for, self._device, self._engine,
                bundle=self._bundle, micro_batch=self._micro_batch, workers=self._workers,
            )  # fmt: skip
            self._lanes = options.callers
            pool = ThreadPoolExecutor(
                self._lanes, "certify-sampler", initializer=limit_threads, initargs=(options.engine,)
            )
        try:
            self._pipeline = await asyncio.get_running_loop().run_in_executor(pool, self._load, options)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        self._pool = pool
        self._info = _info_of(self._pipeline)

    async def close(self) -> None:
        """Drop what waits, let the running slices end, release the networks; a second call does nothing."""
        pool, self._pool, self._pipeline, self._info = self._pool, None, None, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)

    @property
    def workers(self) -> int:
        """Micro-batches computed at once. Legal only after open(), as is info()."""
        self.info()
        assert self._workers is not None
        return self._workers

    def info(self) -> BackendInfo:
        if self._info is None:
            raise BackendUnavailable("the embedded backend is not open")
        return self._info

    def outdated(self) -> bool:
        return False  # what runs here is what was loaded

    async def count_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        info, pipeline = self.info(), self._pipeline
        check_range(info, image, sigma, seed, first, count)
        assert pipeline is not None
        image = np.ascontiguousarray(image).copy()  # the caller may go on with its array while threads read this one
        total = np.zeros(len(info.class_names), dtype=np.int64)

        def work(low: int, high: int) -> NDArray[np.int64]:
            return pipeline.votes(image, sigma=sigma, seed=seed, first=low, count=high - low)

        def take(low: int, high: int, votes: NDArray[np.int64]) -> None:
            np.add(total, votes, out=total)  # integers sum to the same in any order

        await self._in_slices(first, count, work, take)
        return total

    async def chunk_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        info, pipeline = self.info(), self._pipeline
        check_range(info, image, sigma, seed, first, count)
        assert pipeline is not None
        image = np.ascontiguousarray(image).copy()
        rows = np.zeros((count // info.chunk, len(info.class_names)), dtype=np.int64)

        def work(low: int, high: int) -> NDArray[np.int64]:
            return pipeline.chunk_votes(image, sigma=sigma, seed=seed, first=low, count=high - low)

        def take(low: int, high: int, votes: NDArray[np.int64]) -> None:
            rows[(low - first) // info.chunk : (high - first) // info.chunk] = votes

        await self._in_slices(first, count, work, take)
        return rows

    async def _in_slices(
        self,
        first: int,
        count: int,
        work: Callable[[int, int], NDArray[np.int64]],
        take: Callable[[int, int, NDArray[np.int64]], None],
    ) -> None:
        """take(low, high, work(low, high)) for each slice, on the pool: `work` side by side, `take` one by one."""
        assert self._pipeline is not None
        slices = cut(first, count, self._pipeline.micro_batch)
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
                if self._waiting or self._pool is None:
                    return False
            return True

        async def lane() -> None:
            while not await self._run(some):
                pass

        try:
            # Lanes share one iterator: whichever is free takes the next slice.
            async with asyncio.TaskGroup() as lanes:
                for _ in range(self._lanes):
                    lanes.create_task(lane())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            given_up.set()

    async def classify(self, image: NDArray[np.float32]) -> int:
        info, pipeline = self.info(), self._pipeline
        # The checks of an image are count_votes' own; the other arguments are the smallest legal ones.
        check_range(info, image, info.sigmas[0], 0, 0, info.chunk)
        assert pipeline is not None
        image = np.ascontiguousarray(image).copy()
        return await self._run(partial(pipeline.classify, image))

    async def _run(self, work: Callable[[], T]) -> T:
        """Run `work` in the pool. Cancelling drops it if it has not begun; a slice that runs is not interrupted."""
        if self._pool is None:
            raise BackendUnavailable("the embedded backend was closed")

        def translated() -> T:
            self._wait(-1)
            with _translated():
                return work()

        self._wait(+1)
        try:
            future = self._pool.submit(translated)
        except RuntimeError as error:  # shut down between the check and here
            self._wait(-1)
            raise BackendUnavailable("the embedded backend was closed") from error
        future.add_done_callback(lambda done: self._wait(-1) if done.cancelled() else None)
        return await asyncio.wrap_future(future)

    def _wait(self, change: int) -> None:
        """Count who waits for a thread. From any thread."""
        with self._waiting_lock:
            self._waiting += change

    def _load(self, options: RuntimeOptions) -> Pipeline:
        with _translated():
            from ...models.runtime import load_pipeline

            return load_pipeline(self._bundle, options)


def _info_of(pipeline: Pipeline) -> BackendInfo:
    manifest, engine = pipeline.manifest, pipeline.engine
    return BackendInfo(
        kind="embedded",
        bundle_name=manifest.name,
        bundle_digest=manifest.digest,
        class_names=manifest.classes,
        input_shape=manifest.input_shape,
        sigmas=manifest.sigmas,
        thresholds=manifest.thresholds,
        final=manifest.final,
        chunk=manifest.chunk,
        grain=pipeline.micro_batch,
        runtime=Runtime(generator=engine.generator, device=engine.device, engine=engine.name, dtype=engine.dtype),
    )


@contextmanager
def _translated() -> Iterator[None]:
    """The one place where foreign exceptions become the service's."""
    try:
        yield
    except BundleError:
        raise
    except ImportError as error:
        raise BackendUnavailable(
            f"the embedded backend needs openvino (pip install 'certify[cpu]'), or torch (certify[torch]): {error}"
        ) from error
    except Exception as error:
        raise BackendUnavailable(f"the embedded backend failed: {type(error).__name__}: {error}") from error
