"""Pictures are decoded in processes of their own, which can be killed: a decoder in C hears no deadline and no signal.

anyio keeps the processes and kills one whose caller is cancelled, so a deadline, a client that leaves and SIGTERM end
a decoding at once, and a picture that brings a decoder down costs its own request and nobody else's.
"""

from __future__ import annotations

import asyncio

from anyio import BrokenWorkerProcess, CapacityLimiter
from anyio.to_process import run_sync

from ..answering.images import Picture, decode_image
from ..errors import RequestError

__all__ = ("Decoders",)

# Two pictures at a time: decoding is processor work, and memory for it is max_pixels each.
PROCESSES = 2


class Decoders:
    """Create it inside the event loop that serves. seconds: how long one picture may take, once its turn has come."""

    def __init__(self, *, max_pixels: int, seconds: float) -> None:
        self._max_pixels = max_pixels
        self._seconds = seconds
        self._turns = asyncio.Semaphore(PROCESSES)  # first come, first served
        self._limiter = CapacityLimiter(PROCESSES)

    async def start(self) -> None:
        """Begin the processes, so that no request pays for it. Raises what the first decoding raises."""
        await asyncio.gather(*(run_sync(ready, cancellable=True, limiter=self._limiter) for _ in range(PROCESSES)))

    async def decode(self, data: bytes, shape: tuple[int, int, int], *, resize: bool) -> Picture:
        """answering.images.decode_image in another process. Raises RequestError; cancelling kills the process."""
        async with self._turns:
            try:
                async with asyncio.timeout(self._seconds):
                    done = await run_sync(
                        _decode, data, shape, resize, self._max_pixels, cancellable=True, limiter=self._limiter
                    )
            except TimeoutError:
                detail = f"image: expected one that is decoded within {self._seconds:g} s"
                raise RequestError("image_undecodable", detail, field="image") from None
            except BrokenWorkerProcess as error:
                detail = "image: the decoder died of it"
                raise RequestError("image_undecodable", detail, field="image") from error
        if isinstance(done, Picture):
            return done
        code, detail, extra = done
        raise RequestError(code, detail, **extra)


def ready() -> None:
    """What a process is begun with: this module, and so Pillow and numpy, are imported by then."""


def _decode(
    data: bytes, shape: tuple[int, int, int], resize: bool, max_pixels: int
) -> Picture | tuple[str, str, dict[str, object]]:
    """In the process. A RequestError goes back as its parts: exceptions with arguments of their own do not pickle."""
    try:
        return decode_image(data, shape, resize=resize, max_pixels=max_pixels)
    except RequestError as error:
        return error.code, error.detail, error.extra
