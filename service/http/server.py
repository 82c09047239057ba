"""uvicorn with a shutdown in which accepted requests are finished and new ones are told so.

uvicorn alone closes its listening socket at once, so that new clients are refused by the kernel. Here SIGTERM (or the
first SIGINT) only stops admission: /readyz and new requests get 503 `draining`, and the process ends when the last
accepted request is answered, or when grace is over. A second signal ends it at once: whoever waits gets 503 `draining`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import time
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from .. import __version__, tracing
from ..errors import CertifyError, SettingsError
from ..settings import ENV_PREFIX, Settings
from .app import create_app
from .connections import ACCEPTED_AT_ONCE, Connection, ConnectionLimits, most_connections
from .context import Gateway

__all__ = ("Server", "serve")

logger = logging.getLogger(__name__)

# After the last answer: time for its bytes to leave, and for requests cut off by the end of grace to say so.
_LAST_BYTES_SECONDS = 3
# An idle connection is kept this long: longer than the usual 60 s of a proxy before us, so that it closes first.
_KEEP_ALIVE_SECONDS = 75
# Connections that the kernel holds until they are taken: uvicorn's own default.
_KERNEL_QUEUE = 2048
# For requests that are cut off to answer so.
_SAY_SO_SECONDS = 0.1


class Server(uvicorn.Server):
    """One process. `exit_code` after run(): 0 after an orderly end."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        limits = ConnectionLimits(
            connections=most_connections(settings.max_connections), head_seconds=settings.head_seconds
        )
        config = uvicorn.Config(
            app,
            http=cast("type[asyncio.Protocol]", partial(Connection, limits=limits)),
            ws="none",
            backlog=ACCEPTED_AT_ONCE,
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Raises SettingsError when the address cannot be listened on, CertifyError when nothing can be served."""
        try:
            await super().startup(sockets)
        except SystemExit:
            if self.lifespan.should_exit:  # the application could not start
                if isinstance(failure := self._app.state.failure, CertifyError):
                    raise failure from None
                raise
            where = f"{self.config.host}:{self.config.port}"
            raise SettingsError(
                f"{ENV_PREFIX}HTTP_HOST, {ENV_PREFIX}HTTP_PORT: cannot listen on {where}; is another process there?"
            ) from None
        for server in self.servers:
            for listening in server.sockets:
                # asyncio takes as many sockets at once as the kernel may queue; only the first number is to be small.
                with socket.socket(fileno=os.dup(listening.fileno())) as twin:
                    twin.listen(_KERNEL_QUEUE)
        # What is loaded stays: a full collection that walks through all of it would hold every request up.
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Before uvicorn cancels what still runs, which would answer 500."""
        self._gateway().abort()
        await asyncio.sleep(_SAY_SO_SECONDS)
        await super().shutdown(sockets)

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
        admission = self._gateway().admission
        if not admission.draining:
            logger.info("draining: accepted requests are finished, new ones refused")
            admission.drain()
        if not admission.idle and time.monotonic() - since > self._grace_seconds:
            logger.warning("grace is over: the requests still under way are cut off")
            return True
        return admission.idle

    @property
    def failed(self) -> bool:
        """Whether the backend was waited for in vain."""
        return self._gateway().serving.failure is not None

    def _gateway(self) -> Gateway:
        gateway = self._app.state.gateway
        assert isinstance(gateway, Gateway)
        return gateway


def serve(settings: Settings) -> bool:
    """Serve until a signal. False: it could not start, or found no backend (the log says why). Raises CertifyError."""
    if settings.tracing:
        tracing.configure(__version__)
    try:
        server = Server(create_app(settings), settings)
        server.run()
        return server.started and not server.failed
    finally:
        tracing.shut_down()
