"""Pictures are decoded in processes of their own, which can be killed: a decoder in C hears no deadline and no signal.

A process begins when it is first needed, stays, and is killed when its caller is cancelled (http/processes.py): a
deadline, a client that leaves and SIGTERM end a decoding at once, and a picture that brings a decoder down costs its
own request and nobody else's. A picture that is small, in bytes and by its header, is decoded in a thread: it takes
milliseconds; a tiny PNG at once.

A heavy one (large, or of many scans) waits until it is the only heavy one: their memory does not add up, and whoever
sends nothing else keeps one process from others, never all. Few may wait so; more are told to come again. Clients take
turns here as they do with the backend (http/turns.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial

from ..answering.image_headers import Header
from ..answering.images import Picture, decode_pixels
from ..errors import QueueFull, RequestError
from .processes import ProcessDied, Processes
from .turns import Turns, below_share

__all__ = ("Decoders",)

# Two pictures at a time: decoding is processor work, and memory for it is max_pixels each.
PROCESSES = 2

# Heavy pictures in the house: ten seconds of work at about one a second. Each counts once, and again for every 4 MiB of
# its file, so that all of them together hold at most 32 MiB and the last one.
MOST_HEAVY = 8
_COUNTED_BYTES = 4 * 2**20
# Until one has been decoded: what a picture of 16 megapixels takes.
_HEAVY_SECONDS = 1.0
# No memory or no process is left: by then something else has ended.
_BUSY_SECONDS = 5
# Weight of the newest heavy picture in the moving average of their times, as for requests (http/admission.py).
_NEWEST = 0.2
# A picture, or a RequestError's code, detail and hints.
Decoded = Picture | tuple[str, str, dict[str, object]]


class Decoders:
    """Create it inside the event loop that serves. seconds: how long one picture may take, once its turn has come."""

    def __init__(self, *, max_pixels: int, seconds: float) -> None:
        self._max_pixels = max_pixels
        self._seconds = seconds
        # No newcomer passes: memory is for so many pictures.
        self._turns = Turns(PROCESSES, newcomers=0)
        self._heavy_turns = Turns(1, newcomers=0)
        self._heavy: Counter[str] = Counter()  # what they count, by lane, of those that have any
        self._heavy_seconds = _HEAVY_SECONDS
        self._processes = Processes()

    async def decode(self, header: Header, shape: tuple[int, int, int], *, resize: bool, lane: str = "") -> Picture:
        """answering.images.decode_pixels, in another process unless that cannot take long.

        lane: whose picture it is. Raises RequestError, or QueueFull for one heavy picture too many; cancelling kills
        the process.
        """
        work = partial(_decode, header, shape=shape, resize=resize, max_pixels=self._max_pixels)
        if header.tiny and not resize:
            return _picture(work())
        if header.quick:
            return _picture(await asyncio.to_thread(work))
        async with (
            self._heavy_place(lane, len(header.data)) if header.heavy else contextlib.nullcontext(),
            _turn(self._turns, lane),
        ):
            try:
                async with asyncio.timeout(self._seconds):
                    done = await self._elsewhere(work)
            except TimeoutError:
                detail = f"image: expected one that is decoded within {self._seconds:g} s"
                raise RequestError("image_undecodable", detail, field="image") from None
            except ProcessDied as error:
                detail = "image: the decoder died of it"
                raise RequestError("image_undecodable", detail, field="image") from error
            except OSError as error:
                raise QueueFull(
                    f"image: no process can be begun to decode it: {error.strerror}", _BUSY_SECONDS
                ) from error
        return _picture(done)

    @contextlib.asynccontextmanager
    async def _heavy_place(self, lane: str, size: int) -> AsyncIterator[None]:
        """Be the one heavy picture that is decoded, of `size` bytes, for the length of the block. Raises QueueFull."""
        counts = 1 + size // _COUNTED_BYTES
        if (waiting := self._heavy.total()) >= MOST_HEAVY and not below_share(self._heavy, lane, MOST_HEAVY):
            raise QueueFull(
                f"image: expected at most {MOST_HEAVY} large pictures to decode at once, and there are as many",
                max(1, math.ceil(waiting * self._heavy_seconds)),
            )
        self._heavy[lane] += counts
        try:
            async with _turn(self._heavy_turns, lane):
                began = asyncio.get_running_loop().time()
                try:
                    yield
                finally:
                    took = asyncio.get_running_loop().time() - began
                    self._heavy_seconds += _NEWEST * (took / counts - self._heavy_seconds)
        finally:
            self._heavy[lane] -= counts
            if not self._heavy[lane]:
                del self._heavy[lane]

    async def _elsewhere(self, work: Callable[[], Decoded]) -> Decoded:
        try:
            return await self._processes.run(work)
        except ProcessDied:
            # It may have died before, of something else (memory, an operator): once more, in a fresh one.
            return await self._processes.run(work)

    async def close(self) -> None:
        """End the processes, of which none is at work any more."""
        await self._processes.close()


@contextlib.asynccontextmanager
async def _turn(turns: Turns, lane: str) -> AsyncIterator[None]:
    with turns.request(lane) as requester:
        async with requester.turn(0):
            yield


def _decode(header: Header, *, shape: tuple[int, int, int], resize: bool, max_pixels: int) -> Decoded:
    """In the process. A RequestError goes back as its parts: exceptions with arguments of their own do not pickle."""
    try:
        return decode_pixels(header, shape, resize=resize, max_pixels=max_pixels)
    except RequestError as error:
        return error.code, error.detail, error.extra


def _picture(done: Decoded) -> Picture:
    if isinstance(done, Picture):
        return done
    code, detail, extra = done
    raise RequestError(code, detail, **extra)
