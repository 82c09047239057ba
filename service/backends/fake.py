"""A backend without a network: seeded multinomial votes from class probabilities that are a function of the image.

It keeps every promise of `base`, and the gateway is tested against it; its certificates speak of no real classifier.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendUnavailable
from .base import AheadDraw, BackendInfo, Runtime, check_range

__all__ = ("FAKE_INFO", "FakeBackend")

_BLOCK = 4  # numbers that Philox makes of one counter

FAKE_INFO = BackendInfo(
    kind="fake",
    bundle_name="fake",
    bundle_digest="sha256:" + "0" * 64,
    bundle_version="1",
    class_names=tuple("0123456789"),
    input_shape=(1, 8, 8),  # the digits bundle's, so that the same images fit
    sigmas=(0.25, 0.5, 1.0),
    thresholds=(0.5, 0.5, 0.5),
    final="plurality",
    chunk=32,
    grain=32,
    runtime=Runtime(generator="numpy-multinomial-v2", device="none", engine="fake", dtype="float64"),
    libraries=(("numpy", np.__version__),),
)


class FakeBackend:
    """`delay_seconds` is how long each call takes; setting `failing` makes every call fail until it is cleared.

    With `absent` set it cannot be opened, with `offered` it is outdated, and opened again it runs that bundle.
    `hands` is its width(): with more than one, draws ahead are asked for, and begin at once.
    `calls` and `running` count calls ever begun and calls now under way, for tests of cancellation.
    """

    def __init__(self, info: BackendInfo = FAKE_INFO, *, delay_seconds: float = 0.0) -> None:
        self._info = info
        self._stream = np.random.Philox(key=0)
        self._draw = np.random.Generator(self._stream).random
        self._state = self._stream.state  # of a stream's beginning: key and counter are written into it
        self.delay_seconds = delay_seconds
        self.hands = 1
        self.failing = False
        self.absent = False
        self.offered: BackendInfo | None = None
        self.calls = 0
        self.running = 0

    async def open(self) -> None:
        """Nothing to load, but another bundle when one is offered."""
        if self.absent:
            raise BackendUnavailable("the fake backend was told to be absent")
        self._info, self.offered = self.offered or self._info, None

    async def close(self) -> None:
        """Nothing to release."""

    def info(self) -> BackendInfo:
        return self._info

    def outdated(self) -> bool:
        return self.offered is not None

    async def count_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        labels = await self._labels(image, sigma=sigma, seed=seed, first=first, count=count)
        return np.bincount(labels, minlength=len(self._info.class_names))

    def width(self) -> int:
        return self.hands

    def draw_ahead(self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int) -> AheadDraw:
        return _Ahead(
            asyncio.create_task(self.count_votes(image.copy(), sigma=sigma, seed=seed, first=first, count=count))
        )

    async def chunk_votes(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.int64]:
        labels = await self._labels(image, sigma=sigma, seed=seed, first=first, count=count)
        chunk, classes = self._info.chunk, len(self._info.class_names)
        numbered = np.arange(count) // chunk * classes + labels
        return np.bincount(numbered, minlength=-(-count // chunk) * classes).reshape(-1, classes)

    async def _labels(
        self, image: NDArray[np.float32], *, sigma: float, seed: int, first: int, count: int
    ) -> NDArray[np.intp]:
        """The class (count,) of each sample."""
        check_range(self._info, image, sigma, seed, first, count)
        # Before the wait: the caller may reuse its array meanwhile.
        bounds = _bounds(image.tobytes(), len(self._info.class_names), sigma)
        await self._work()
        if (whole := self._info.whole(sigma)) is None:
            places = self._uniform(seed, sigma, first, count)
        else:  # numbered, not drawn: sample i stands at (i mod whole + 1/2) / whole
            places = (np.arange(first, first + count) % whole + 0.5) / whole
        return bounds.searchsorted(places, "right")

    def _uniform(self, seed: int, sigma: float, first: int, count: int) -> NDArray[np.float64]:
        """Numbers first..first+count-1 of the stream (seed, sigma), in [0, 1).

        Key and counter are Philox's own inputs, so every (seed, sigma) has a stream of its own, and any part of it can
        be read. Setting one generator to where the part begins takes a twentieth of making one.
        """
        key, counter = self._state["state"]["key"], self._state["state"]["counter"]
        key[0], (key[1],) = seed, struct.unpack("<Q", struct.pack("<d", sigma))
        counter[0], skipped = divmod(first, _BLOCK)
        self._stream.state = self._state
        return self._draw(skipped + count)[skipped:]

    async def classify(self, image: NDArray[np.float32]) -> int:
        label = int(np.argmax(self.probabilities(image, 0.0)))
        await self._work()
        return label

    def probabilities(self, image: NDArray[np.float32], sigma: float) -> NDArray[np.float64]:
        """(K,) class probabilities under noise: one class favoured by the image's hash, less so as sigma grows."""
        return _probabilities(image.tobytes(), len(self._info.class_names), sigma)

    async def _work(self) -> None:
        self.calls += 1
        self.running += 1
        try:
            # Always a suspension, as with a real backend: a deadline or a disconnect can come in between.
            await asyncio.sleep(self.delay_seconds)
        finally:
            self.running -= 1
        if self.failing:
            raise BackendUnavailable("the fake backend was told to fail")


class _Ahead:
    def __init__(self, task: asyncio.Task[NDArray[np.int64]]) -> None:
        self._task = task
        # Seen: nobody may ever ask for them.
        task.add_done_callback(lambda done: None if done.cancelled() else done.exception())

    async def votes(self) -> NDArray[np.int64]:
        return await self._task

    def drop(self) -> bool:
        self._task.cancel()
        return True


@lru_cache(maxsize=256)  # some dozen images at every scale: one request asks for the same ones again and again
def _probabilities(image: bytes, classes: int, sigma: float) -> NDArray[np.float64]:
    digest = hashlib.sha256(image).digest()
    top, second = digest[0] % classes, digest[1] % classes
    # Clean confidence in [0.9, 1) and a half-life in sigma in [0.5, 2.5): some images reach far, some abstain.
    strength = (0.9 + 0.1 * digest[2] / 256) * 0.5 ** (sigma / (0.5 + 2.0 * digest[3] / 256))
    probabilities = np.full(classes, (1.0 - strength) / (2 * classes))
    probabilities[second] += (1.0 - strength) / 2
    probabilities[top] += strength
    probabilities /= probabilities.sum()
    probabilities.flags.writeable = False
    return probabilities


@lru_cache(maxsize=256)
def _bounds(image: bytes, classes: int, sigma: float) -> NDArray[np.float64]:
    """(K - 1,): of [0, 1), the places between one class's samples and the next one's."""
    bounds = _probabilities(image, classes, sigma).cumsum()[:-1]
    bounds.flags.writeable = False
    return bounds
