"""Memory that bodies and pictures took goes back to the system once they are gone.

glibc keeps freed memory in its heaps, one for each thread: after some hundred megabytes of bodies a process would stay
as large as it was at its worst. malloc_trim(3) gives whole free pages of every heap back. Elsewhere nothing is done.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

__all__ = ("Trimmer", "malloc_trim")

# It takes some milliseconds, in a thread, with a heap locked at a time: not for every small request.
_MUCH_BYTES = 16 * 2**20
_LOOK_SECONDS = 1.0
# So many looks after much has come: its last pictures have been decoded by then (http/decoding.py).
_LOOKS = 10


def malloc_trim() -> Callable[[], object] | None:
    """The C library's, or None where it has none (musl, macOS)."""
    function = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return None if function is None else lambda: function(0)  # ctypes lets other threads run meanwhile


class Trimmer:
    """Calls `trim`, in a thread, when `came()`, the bytes of all bodies so far, has grown by much."""

    def __init__(self, trim: Callable[[], object], came: Callable[[], int]) -> None:
        self._trim = trim
        self._came = came
        self._seen = came()
        self._looks = 0

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        came = self._came()
        if came - self._seen >= _MUCH_BYTES:
            self._seen, self._looks = came, _LOOKS
        if self._looks:
            self._looks -= 1
            await asyncio.to_thread(self._trim)
