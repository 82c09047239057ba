"""uvicorn with a shutdown in which accepted requests are finished and new ones are told so.

uvicorn alone closes its listening socket at once, so that new clients are refused by the kernel. Here SIGTERM (or the
first SIGINT) only stops admission: /readyz and new requests get 503 `draining`, and the process ends when the last
accepted request is answered, or when grace is over. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from .. import __version__, tracing
from ..settings import Settings
from .admission import Admission
from .app import create_app
from .context import Gateway

__all__ = ("Server", "serve")

logger = logging.getLogger(__name__)

# After the last answer: time for its bytes to leave, and for requests cut off by the end of grace to say so.
_LAST_BYTES_SECONDS = 3
# An idle connection is kept this long: longer than the usual 60 s of a proxy before us, so that it closes first.
_KEEP_ALIVE_SECONDS = 75


class Server(uvicorn.Server):
    """One process. `exit_code` after run(): 0 after an orderly end."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            host=settings.http_host,
            port=settings.http_port,
            log_config=None,  # service.http.log has configured logging
            access_log=False,  # service.http.log writes one line a request, with its id
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_LAST_BYTES_SECONDS,
        )
        super().__init__(config)
        self._app = app
        self._grace_seconds = settings.grace_seconds
        self._signalled: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: only note it, the loop's next tick acts on it."""
        if self._signalled is not None or not self.started:
            self.should_exit = True
            self.force_exit = self._signalled is not None and sig == signal.SIGINT
        else:
            self._signalled = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """uvicorn asks ten times a second whether to go on."""
        if self._signalled is not None and not self.should_exit:
            self.should_exit = await self._drained(self._signalled)
        elif self.failed:
            self.should_exit = True
        return await super().on_tick(counter)

    async def _drained(self, since: float) -> bool:
        admission = self._admission()
        if not admission.draining:
            logger.info("draining: accepted requests are finished, new ones refused")
            admission.drain()
        if not admission.idle and time.monotonic() - since > self._grace_seconds:
            logger.warning("grace is over: the requests still under way are cut off")
            admission.abort()
            await asyncio.sleep(0.1)
            return True
        return admission.idle

    @property
    def failed(self) -> bool:
        """Whether the backend was waited for in vain."""
        return self._gateway().serving.failure is not None

    def _admission(self) -> Admission:
        return self._gateway().admission

    def _gateway(self) -> Gateway:
        gateway = self._app.state.gateway
        assert isinstance(gateway, Gateway)
        return gateway


def serve(settings: Settings) -> bool:
    """Serve until a signal. False: it could not start, or found no backend (the log says why). Raises SettingsError."""
    if settings.tracing:
        tracing.configure(__version__)
    try:
        server = Server(create_app(settings), settings)
        server.run()
        return server.started and not server.failed
    finally:
        tracing.shut_down()
