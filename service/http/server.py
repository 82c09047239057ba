"""uvicorn with a shutdown in which accepted requests are finished and new ones are told so.

uvicorn alone closes its listening socket at once, so that new clients are refused by the kernel. Here SIGTERM (or the
first SIGINT) only stops admission: /readyz and new requests get 503 `draining`, and the process ends when the last
accepted request is answered, or when grace is over. A second signal ends it at once: whoever waits gets 503 `draining`.
SIGHUP, of a terminal that closes, is as SIGTERM, unless nohup has it ignored. While starting, the first one is the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from .. import __version__, tracing
from ..errors import CertifyError, SettingsError
from ..settings import ENV_PREFIX, Settings
from .app import create_app
from .connection_limits import ACCEPTED_AT_ONCE, ConnectionLimits, most_connections
from .connections import Connection
from .context import Gateway
from .starts import Starts

__all__ = ("Server", "serve")

logger = logging.getLogger(__name__)

# After the last answer: time for its bytes to leave. An answer fits the kernel's buffers; a dead client waits in vain.
_LAST_BYTES_SECONDS = 1
# The end of grace, at most a third of it: requests are cut off so much before, and the process is gone by then.
_LEAVING_SECONDS = 1.5
# An idle connection is kept this long: longer than the usual 60 s of a proxy before us, so that it closes first.
_KEEP_ALIVE_SECONDS = 75
# Connections that the kernel holds until they are taken: uvicorn's own default.
_KERNEL_QUEUE = 2048
# How long a thread keeps the interpreter from others that want it. A slice of sampling wants it a dozen times for some
# microseconds: at Python's 5 ms a loop that refuses a flood makes it several times as slow.
_SWITCH_SECONDS = 0.0005
# How soon a signal is acted upon while starting; later uvicorn asks as often.
_LOOK_SECONDS = 0.1
# For requests that are cut off to answer so.
_SAY_SO_SECONDS = 0.1
# Soon after grace the process is gone, whatever a thread of it is doing: within the 5 s that Kubernetes' defaults leave
# (terminationGracePeriodSeconds 30, CERTIFY_GRACE_SECONDS 25), so that its log says what it was.
_GONE_SECONDS = 4.5


# What binding to `::` says on a machine without IPv6.
_NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Server(uvicorn.Server):
    """One process. `exit_code` after run(): 0 after an orderly end."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        limits = ConnectionLimits(
            connections=most_connections(settings.max_connections),
            head_seconds=settings.head_seconds,
            body_bytes=settings.max_body_bytes,
            body_seconds=settings.body_seconds,
            root_path=settings.root_path,
        )
        connection = partial(
            Connection, limits=limits, starts=Starts(), rest=limits.rest, no_http=self._no_http, left=self._left
        )
        config = uvicorn.Config(
            app,
            http=cast("type[asyncio.Protocol]", connection),
            ws="none",
            backlog=1,  # which asyncio takes as connections to accept in a round: see startup()
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
        self._working_seconds = self._grace_seconds - min(_LEAVING_SECONDS, self._grace_seconds / 3)
        self._signalled: float | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's two, and SIGHUP unless nohup has it ignored; as there, of the main thread alone."""
        hangs_up = threading.current_thread() is threading.main_thread()
        hangs_up = hangs_up and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        if hangs_up:
            signal.signal(signal.SIGHUP, self.handle_exit)
        try:
            with super().capture_signals():
                yield
        finally:
            if hangs_up:
                signal.signal(signal.SIGHUP, signal.SIG_DFL)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Raises SettingsError when the address cannot be listened on, CertifyError when nothing can be served."""
        where = f"{self.config.host}:{self.config.port}"
        ending = asyncio.create_task(self._end_while_starting(), name="end while starting")
        try:
            bound = await self._bind()
            # A loop takes one connection of a listening socket in each of its rounds. Under an attack that is too few:
            # the kernel's queue fills, and a newcomer waits for seconds. The same socket under several numbers is
            # asked as often.
            again = [socket.socket(fileno=os.dup(b.fileno())) for b in bound for _ in range(ACCEPTED_AT_ONCE - 1)]
            with self._failures_in_words():
                await super().startup([*bound, *again])
        except SystemExit:
            if isinstance(failure := self._app.state.failure, CertifyError):
                raise failure from None
            raise
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be any host's
            what = getattr(error, "strerror", None) or str(error)
            raise SettingsError(
                f"{ENV_PREFIX}HTTP_HOST, {ENV_PREFIX}HTTP_PORT: cannot listen on {where}; is another process there? "
                f"({what})"
            ) from None
        finally:
            ending.cancel()
        self._log_started_message(bound)  # which uvicorn does only for sockets that it made itself
        for server in self.servers:
            for listening in server.sockets:
                with socket.socket(fileno=os.dup(listening.fileno())) as twin:
                    twin.listen(_KERNEL_QUEUE)
        # The libraries' million objects are there for ever: looking through them at each full collection would stop
        # the loop for a quarter of a second.
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(_SWITCH_SECONDS)

    async def _end_while_starting(self) -> None:
        """Once a signal has come: nobody is served yet, and a thread that loads a bundle cannot be stopped."""
        while self._signalled is None:
            await asyncio.sleep(_LOOK_SECONDS)
        logger.info("ended by a signal while starting: nothing was served")
        logging.shutdown()
        os._exit(0)

    @contextlib.contextmanager
    def _failures_in_words(self) -> Iterator[None]:
        """uvicorn logs a start's failure with its traceback; one that we foresee has its words in the last line."""

        def in_words(record: logging.LogRecord) -> bool:
            foreseen = isinstance(getattr(self._app.state, "failure", None), CertifyError)
            return not (foreseen and record.getMessage().startswith("Traceback"))

        log = logging.getLogger("uvicorn.error")
        log.addFilter(in_words)
        try:
            yield
        finally:
            log.removeFilter(in_words)

    async def _bind(self) -> list[socket.socket]:
        """The address's sockets, which do not listen yet: a port in use is noticed before a bundle is loaded."""
        host, port = self.config.host, self.config.port
        if host != "::":
            return await self._bound(host, port)
        # Every address of both families: asyncio's own `::` leaves IPv4 out, and one socket for both would show IPv4
        # clients as ::ffff:..., which proxies' settings do not expect.
        try:
            bound = await self._bound(host, port)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
            return await self._bound("0.0.0.0", port)
        return [*bound, *await self._bound("0.0.0.0", bound[0].getsockname()[1])]

    async def _bound(self, host: str, port: int) -> list[socket.socket]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
        # Closing it closes its own; these are the same sockets under other numbers.
        bound = [socket.socket(fileno=os.dup(each.fileno())) for each in server.sockets]
        server.close()
        return bound

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Before uvicorn cancels what still runs, which would answer 500."""
        self._gateway().abort()
        await asyncio.sleep(_SAY_SO_SECONDS)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: only note it, the loop's next tick acts on it. If that never comes, the process ends by itself."""
        if self._signalled is not None:
            self.should_exit = True  # never uvicorn's force_exit, which leaves the lifespan to be cancelled
            _end_in(_GONE_SECONDS)
        else:
            self._signalled = time.monotonic()
            _end_in(_GONE_SECONDS + (self._grace_seconds if self.started else 0))

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
        if not admission.idle and time.monotonic() - since > self._working_seconds:
            logger.warning("grace is nearly over: the requests still under way are cut off")
            return True
        return admission.idle

    @property
    def failed(self) -> bool:
        """Whether the backend was waited for in vain."""
        return self._gateway().serving.failure is not None

    def _no_http(self) -> None:
        self._gateway().metrics.no_http.inc()

    def _left(self) -> None:
        self._gateway().metrics.disconnects.inc()

    def _gateway(self) -> Gateway:
        gateway = self._app.state.gateway
        assert isinstance(gateway, Gateway)
        return gateway


def _end_in(seconds: float) -> None:
    """The process, by a thread that needs no interpreter lock; it writes first what every thread is at."""
    with contextlib.suppress(RuntimeError, ValueError, OSError):  # no stderr to write to: grace alone must do
        faulthandler.dump_traceback_later(seconds, exit=True)


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
        gc.freeze()  # the interpreter's own end looks through every object once more: a second or two for nothing
