"""Connections: how many at once, how long a request's head may take, and how finely a body may be cut.

uvicorn alone has no limit before a whole head has come, and httptools none on a head's size. Here a new connection
beyond the limit is let in and the one that has been silent longest is closed for it, among those whose request is not
whole: a probe is answered however many connections wait, and no request that is worked on is ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from .connection_limits import ConnectionLimits
from .keys import network
from .log import is_quiet
from .rests import ClosedGently, Rest, RestLimits
from .starts import Starts
from .until_closed import until_closed

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

__all__ = ("Connection", "HeldBack")

logger = logging.getLogger(__name__)

# Line ends in what one read brings of a head or of chunks: a head has a few dozen, a form in chunks four for each field
# (a list of 64 may come as 64 fields, and more than are read are to be told so), an image few. A body in chunks of some
# bytes costs the parser more than the network.
_LINE_ENDS, _BYTES_PER_LINE_END = 640, 64
# Of a request, all that is not its body: its head, which nginx bounds at as much, and what frames and follows chunks.
_FRAMING_BYTES = 32 * 1024
_HEAD_END = b"\r\n\r\n"
# What a request's body is framed by.
_LENGTHS = (b"content-length", b"transfer-encoding")
# When the process ends: uvicorn waits a second for its connections.
_LAST_REST_SECONDS = 0.5
# Requests that a client sends before it is answered: browsers and proxies send none, uvicorn would keep any number.
_PIPELINED = 8


@dataclass
class HeldBack:
    """Whether the request that a connection waits for is a refusal that is held back (http/admission.py)."""

    now: bool = False
    forget: Callable[[], None] = lambda: None  # what has come of its body, which nobody will read


class _Parser(httptools.HttpRequestParser):
    """httptools', which ends a request at a head that offers another protocol, and takes its body for a request."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        # As uvicorn has it: what follows a last request is not to spoil its answer.
        self.set_dangerous_leniencies(lenient_data_after_close=True)
        self._connection = connection

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._connection.decline_upgrade(data[offer.args[0] :])


class Connection(HttpToolsProtocol):
    """One client's connection. Each request's state has its `held_back`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
        starts: Starts,
        rest: RestLimits,
        no_http: Callable[[], None],
        left: Callable[[], None],
    ) -> None:
        """no_http: called when what came is no HTTP. uvicorn's warning of it: see http/log.py.

        left: called when the client has left before its request began.
        """
        self._held_back = HeldBack(forget=self._forget_body)
        super().__init__(config, server_state, {**app_state, "held_back": self._held_back}, _loop)
        self.parser = _Parser(self)
        self._declining = False
        self._limits = limits
        self._starts = starts
        self._no_http = no_http
        self._left = left
        self._lane = ""
        self._rest = Rest(
            rest,
            pause=lambda: self.flow.pause_reading(),
            resume=lambda: self.flow.resume_reading(),
            end=self.close_now,
        )
        self._most_rest = rest.most_bytes
        self._answering: RequestResponseCycle | None = None  # `cycle` is of the request that came last
        self._in_body = False  # a request's head has come, and its body is not whole
        self._no_more = False  # what comes is read by nobody, and nothing more is sent
        self._head_timer: asyncio.TimerHandle | None = None
        self._last_bytes = self.loop.time()
        self._in_head = False  # a request has begun, and its head is not whole
        self._framing = 0  # bytes of this request outside its body
        self._body = 0
        self._to_come: int | None = 0  # of a body: its bytes that are still to come; None: it comes in chunks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._real = transport
        super().connection_made(ClosedGently(transport, self._close))
        self._lane = network(self.client[0]) if self.client else ""
        self._start_head_timer()
        if len(self.connections) > self._limits.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._rest.forget(self._lane)
        self._nobody_waits()
        super().connection_lost(exc)
        if self._starts.forget(self, self._lane):
            self._left()

    def data_received(self, data: bytes) -> None:
        self._last_bytes = self.loop.time()
        if self._no_more:
            self._rest.came(len(data), self._lane)
            return
        size = len(data)
        while data and not self._no_more and not self.transport.is_closing():
            piece = data[: self._next_piece(data)]
            data = data[len(piece) :]
            self._parse(piece)
        if self._no_more:
            return
        if self.pipeline and sum(len(cycle.body) for cycle, _ in self.pipeline) <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()  # else nobody would see that the client leaves
        if self._in_head and self._head_timer is None and not self.transport.is_closing():
            self._start_head_timer()  # the beginning of a next request
        if self._rest.coming:
            self._rest.came(size, self._lane)
        elif self.cycle is not None and self.cycle.response_complete and not self._in_head and not self._in_body:
            # uvicorn stops this clock at any byte, a rest's too, and starts it at an answer's end alone.
            self._unset_keepalive_if_required()
            later = self.loop.call_later
            self.timeout_keep_alive_task = later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _next_piece(self, data: bytes) -> int:
        """How many of these bytes are of one kind: a body of a known length, chunks, or up to a head's end."""
        if self._to_come:
            return self._to_come
        end = -1 if self._to_come is None else data.find(_HEAD_END)
        return len(data) if end < 0 else end + len(_HEAD_END)

    def _parse(self, data: bytes) -> None:
        # A body of a known length is one piece to the parser, whatever is in it: a form is told what is wrong with it.
        if not self._to_come and data.count(b"\r\n") > _LINE_ENDS + len(data) // _BYTES_PER_LINE_END:
            self._refuse("expected a head and a body, got bytes that are nearly all line ends or chunk sizes")
            return
        self._framing += len(data)
        super().data_received(data)
        if self._no_more:
            return
        # Chunks may bring as much framing as body: a byte of a body costs five, and their number is bounded above.
        if self._framing > _FRAMING_BYTES + self._body:
            self._refuse(f"expected a head, chunk sizes and trailers of at most {_FRAMING_BYTES} bytes")

    def send_400_response(self, msg: str) -> None:
        self._no_http()
        self._refuse(msg)

    def _refuse(self, msg: str) -> None:
        """What came is no request: say so, and read nothing more of this client."""
        follows = not self._in_body  # no part of the last request's body
        if self.pipeline and self._answering and not follows:  # of one whose turn has not come: as if none of it had
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._answering
            follows = True
        self._in_body = True  # whatever comes: see _close
        self._stop_head_timer()
        if self._rest.coming:  # it has its answer already
            self.transport.close()
        elif follows and self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False  # what was asked before is answered as if this had not come
            self._no_more = True
        elif self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.close_now()  # words would be taken for the answer's
        elif not self.transport.is_closing():
            logger.debug("a connection is closed: %s", msg)
            super().send_400_response(msg)

    def decline_upgrade(self, rest: bytes) -> None:
        """A head has come that offers another protocol; it is answered as HTTP/1.1 (RFC 9110, 7.8), with its body.

        Java's HttpClient and curl --http2 offer h2c so. The body, which begins `rest`, is read by a new parser behind a
        head of nothing but its length.
        """
        lengths = [name + b": " + value for name, value in self.headers if name in _LENGTHS]
        self.parser = _Parser(self)
        self._declining = True
        self.parser.feed_data(b"\r\n".join([b"POST / HTTP/1.1", *lengths, b"", b""]))
        self._declining = False
        self.parser.feed_data(rest)

    def on_message_begin(self) -> None:
        if not self._declining:
            super().on_message_begin()
            self._in_head = True

    def on_headers_complete(self) -> None:
        if self._declining:
            return
        if sum(name == b"host" for name, _ in self.headers) > 1:
            # RFC 9112, 3.2. What stands before may have gone by the other one. uvicorn refuses what no parser takes.
            raise ValueError("expected one Host, got several")
        self._in_head = False
        self._in_body = True
        self._stop_head_timer()
        framed = dict(self.headers)
        self._to_come = None if b"transfer-encoding" in framed else int(framed.get(b"content-length", 0))
        super().on_headers_complete()
        if (self._to_come or 0) > self._most_rest:
            self.cycle.keep_alive = False  # nobody takes so much, and its rest is not read to the end
        if len(self.pipeline) > _PIPELINED:
            self._refuse(f"expected at most {_PIPELINED} requests behind one that is not answered")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        if cycle.scope["http_version"] == "1.0":
            cycle.waiting_for_100_continue = False  # which it does not know (RFC 9110, 10.1.1)
            app = until_closed(cycle, app)
        begin = partial(super()._start_asgi_task, cycle, app)
        if is_quiet(cycle.scope["path"], self._limits.root_path):
            begin()
            return
        cycle.scope["state"]["arrival"] = time.monotonic()  # its deadline counts from here
        self._starts.ask(self, self._lane, begin)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what follows a body nobody reads
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._framing -= len(body)
        self._body += len(body)
        if self._to_come is not None:
            self._to_come -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._no_more or self.parser.should_upgrade():
            return  # nobody's, or only its head is: see decline_upgrade
        super().on_message_complete()
        self._framing = self._body = self._to_come = 0
        self._in_body = False
        self._rest.over()

    def on_response_complete(self) -> None:
        self._forget_body()
        if self.cycle.response_complete and self._in_body:
            self._rest.begin()
        super().on_response_complete()

    @property
    def unfinished(self) -> bool:
        """No whole request of this client's is being worked on: it may be closed for another."""
        arriving = self.cycle is None or self.cycle.response_complete or self.cycle.more_body
        waiting = self._held_back.now or self._starts.waits(self, self._lane)
        return self._rest.coming or waiting or (not self.pipeline and arriving)

    @property
    def last_bytes(self) -> float:
        """When bytes last came, or the connection was made, in the loop's time."""
        return self._last_bytes

    def _forget_body(self) -> None:
        """A read is 256 KiB, and reading has stopped after one: many connections would hold many of them."""
        if self._answering is not None:
            self._answering.body = bytearray()

    def _nobody_waits(self) -> None:
        """For an answer: nobody gets it now."""
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def close_now(self) -> None:
        """Whatever is going on; a request whose body is arriving ends as if its client had left."""
        self.connections.discard(self)
        self.transport.abort()

    def _close(self) -> None:
        """Once what was sent has left; a client that is still sending comes to it before the connection ends."""
        if not self._in_body or self._real.is_closing():
            self._real.close()
            return
        self._no_more = True
        self._stop_head_timer()
        self._nobody_waits()
        self._real.write_eof()
        self._rest.begin()
        self.flow.resume_reading()

    def shutdown(self) -> None:
        super().shutdown()
        if self._rest.coming:
            self._rest.end_in(_LAST_REST_SECONDS)

    def _make_room(self) -> None:
        others = (other for other in self.connections if isinstance(other, Connection) and other is not self)
        silent = min((other for other in others if other.unfinished), key=lambda other: other.last_bytes, default=self)
        silent.close_now()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_seconds, self.close_now)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
