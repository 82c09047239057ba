"""The backend's life in a serving process: which bundle is served now, if any.

A remote backend is opened in the background, so that the process listens at once and says why it is not ready. When
all of its servers run something else than what was found, it is opened again, and what they run is adopted: never
while an answer is under way, so that one answer's seeds, votes and digest are of one bundle.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..backends.base import Backend, BackendInfo
from ..errors import BackendUnavailable

__all__ = ("Serving",)

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0  # from one attempt to open the backend to the next
_LOOK_SECONDS = 0.1  # how soon a change of servers is acted upon, once the last answer is out


class Serving:
    """Opens and closes `backend`. Create and use it inside one event loop."""

    def __init__(
        self,
        backend: Backend,
        *,
        wait_seconds: float,
        idle: Callable[[], bool],
        on_open: Callable[[BackendInfo], None],
    ) -> None:
        """wait_seconds: how long the first opening may take in the background; 0: no limit.

        idle: whether no answer is under way. on_open: told of every bundle that is served from now on.
        """
        self._backend = backend
        self._wait_seconds = wait_seconds
        self._idle = idle
        self._on_open = on_open
        self._info: BackendInfo | None = None
        self._problem = "the backend is being opened and has not answered yet"
        self._keeper: asyncio.Task[None] | None = None
        self.failure: Exception | None = None
        """Why it is given up: set when the process had better end."""

    @property
    def info(self) -> BackendInfo:
        """What is served, the same until the last answer is out. Raises BackendUnavailable when nothing is, and why."""
        if self._info is None:
            raise BackendUnavailable(self._problem)
        return self._info

    def check(self) -> None:
        """Raise BackendUnavailable, with the reason, when nothing is served, or not for long: take nothing new then."""
        if self.info and self._backend.outdated():
            raise BackendUnavailable("every server runs another bundle now; it is adopted once the last answer is out")

    @property
    def is_open(self) -> bool:
        """Whether something is served."""
        return self._info is not None and not self._backend.outdated()

    async def start(self, *, background: bool) -> None:
        """Open the backend, in the background or now; then raises what its open() raises."""
        if not background:
            await self._open()
        self._keeper = asyncio.create_task(self._keep(), name="serving")

    async def close(self) -> None:
        """Close the backend, whatever it is at."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._info = None
        await self._backend.close()

    async def _keep(self) -> None:
        await self._open_patiently(self._wait_seconds)
        while self.failure is None:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._backend.outdated() and self._idle():
                # Nothing is awaited in between: whoever asks from here on finds nothing served.
                self._info, self._problem = None, "the backend is being opened again, with another bundle"
                await self._backend.close()
                await self._open_patiently(0)  # a service that has answered waits for its servers, however long

    async def _open_patiently(self, seconds: float) -> None:
        """Try until it is open, or for `seconds` (0: no limit). It then sets `failure`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self._info is None and self.failure is None:
            try:
                await self._open()
            except BackendUnavailable as problem:
                self._wait_on(problem)
                if seconds and loop.time() - began >= seconds:
                    logger.error("no backend within %g seconds: giving up", seconds)
                    self.failure = problem
            except Exception as problem:  # no waiting mends it
                logger.error("cannot open the backend", exc_info=problem)
                self.failure = problem
            if self._info is None:
                await asyncio.sleep(_RETRY_SECONDS)

    def _wait_on(self, problem: BackendUnavailable) -> None:
        if str(problem) != self._problem:
            logger.warning("waiting for the backend: %s", problem)
        self._problem = str(problem)

    async def _open(self) -> None:
        await self._backend.open()
        info = self._backend.info()
        logger.info("serving %s %s on %s", info.bundle_name, info.bundle_digest, info.runtime)
        self._on_open(info)
        self._info = info
