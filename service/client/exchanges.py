"""How a service is asked, without asking: steps that say what to do next, and what is sent again when it fails.

Steps are a generator. It yields a command, is sent what came of it (or the error that it raised), and at the end has
given the caller one answer or many. Client and AsyncClient carry the commands out; nothing here waits or opens a
connection.

Everything is sent again that failed in passing, whatever it is: to certify changes nothing at the service, and the same
question has the same answer to the last digit (docs/protocol.md, 6.3), so that neither a second answer nor a lost one
does harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from numbers import Real
from typing import Any, Generic, TypeAlias, TypeVar

import httpx

from ...models.retries import Retries
from .. import __version__
from ..errors import CertifyError, DeadlineExceeded
from .failures import foreign, passes, refusal, unreachable

__all__ = (
    "Caller",
    "Give",
    "Next",
    "Rest",
    "Send",
    "Steps",
    "Tries",
    "Wait",
    "Work",
    "advance",
    "answered",
    "asked",
    "whole",
)

T = TypeVar("T")
# A service that cannot be reached is known quickly; how long it may sample is its own business.
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Wait:
    """-> None, after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """-> what the function returns: it reads a file or encodes an image, and may take a while."""

    do: Callable[[], Any]


@dataclass(frozen=True)
class Send:
    """-> httpx.Response, its body still to be read."""

    request: httpx.Request


@dataclass(frozen=True)
class Rest:
    """-> the next bytes of the response's body; b"" at its end."""


@dataclass(frozen=True)
class Next:
    """-> the caller's next image, in a tuple; None when there is none."""


@dataclass(frozen=True)
class Give(Generic[T]):
    """-> None; the value is the caller's."""

    value: T


Steps: TypeAlias = Generator[Wait | Work | Send | Rest | Next | Give[T], Any, None]


def advance(steps: Steps[T], outcome: object) -> Wait | Work | Send | Rest | Next | Give[T]:
    """The next command. outcome: of the last one. Raises StopIteration at the end."""
    return steps.throw(outcome) if isinstance(outcome, Exception) else steps.send(outcome)


class Caller:
    """Whom to ask, and how patiently."""

    def __init__(self, url: str, key: str | None, retries: Retries | None, timeout: float | None) -> None:
        """Raises TypeError or ValueError, without the key's text, which may end in a log."""
        if not isinstance(url, str):
            raise TypeError(f"url: expected text, got {type(url).__name__}")
        if not isinstance(retries, Retries | None):
            raise TypeError(f"retries: expected Retries(attempts=...), got {type(retries).__name__}")
        self.url = url.rstrip("/")
        self.retries = retries or Retries()
        self.timeout = _seconds(timeout)
        self.answered = False  # once anything has
        self._headers = {"User-Agent": f"certify/{__version__}"}  # some proxies refuse who has none
        if key is not None:
            self._headers["Authorization"] = f"Bearer {_word(key)}"

    def request(self, method: str, path: str, *, accept: str = "application/json", **content: Any) -> httpx.Request:
        """content: as httpx.Request takes it. Raises BackendUnavailable for an address that is none."""
        try:
            if "?" in self.url or "#" in self.url:  # the path would be part of it
                raise httpx.InvalidURL("expected an address without `?` and `#`")
            request = httpx.Request(method, self.url + path, headers={**self._headers, "Accept": accept}, **content)
            if (port := request.url.port) is not None and not 0 < port < 2**16:
                raise httpx.InvalidURL(f"Invalid port: {port}")  # which httpx leaves to the socket
            return request
        except httpx.InvalidURL as error:
            raise unreachable(self.url, error) from error


def _seconds(timeout: float | None) -> float | None:
    if timeout is None or timeout == float("inf"):
        return None
    if not isinstance(timeout, Real):
        raise TypeError(f"timeout: expected seconds or None, got {type(timeout).__name__}")
    if timeout != timeout:
        raise ValueError("timeout: expected seconds or None, got NaN")
    return timeout


def _word(key: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"key: expected text, got {type(key).__name__}")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(
            "key: expected one word of printable ASCII, got something else; is it a file's text with its line end? "
            "(.strip())"
        )
    return key


class Tries:
    """The tries of one question: when the next is, and when there is none."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._failed = 0  # in a row
        self._end = None if caller.timeout is None else time.monotonic() + caller.timeout

    def timed(self, request: httpx.Request) -> httpx.Request:
        """With what is left of the time. Raises DeadlineExceeded when nothing is."""
        left = self._left()
        connect = _CONNECT_SECONDS if left is None else min(_CONNECT_SECONDS, left)
        request.extensions["timeout"] = httpx.Timeout(left, connect=connect).as_dict()
        return request

    def progressed(self) -> None:
        """Something came that need not come again."""
        self._failed = 0

    def pause(self, error: Exception) -> float:
        """Seconds until the next try. Raises the error, as one of ours, if it does not pass or was the last."""
        caller = self._caller
        self._failed += 1
        failure = _ours(caller.url, error, self._failed)
        cause = None if failure is error else error
        if not passes(error):
            raise failure from cause
        left = self._left(failure)
        retries = caller.retries
        if self._failed >= (retries.attempts if caller.answered else retries.first_contact_attempts):
            raise failure from cause
        pause = retries.pause(self._failed, failure.retry_after_seconds)
        if left is not None and pause >= left:
            raise self._late() from failure
        return pause

    def _left(self, failure: Exception | None = None) -> float | None:
        """Seconds; None: no end."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise self._late() from failure
        return left

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{self._caller.url}: no answer within the client's timeout of {self._caller.timeout} s"
        )


def asked(caller: Caller, request: httpx.Request, read: Callable[[httpx.Response], Steps[T]]) -> Steps[T]:
    """Send a request until it is answered, and give what `read` makes of the answer. Raises CertifyError."""
    tries = Tries(caller)
    while True:
        try:
            yield from answered(caller, tries.timed(request), read)
            return
        except (CertifyError, httpx.HTTPError, ValueError) as error:
            pause = tries.pause(error)
        yield Wait(pause)


def answered(caller: Caller, request: httpx.Request, read: Callable[[httpx.Response], Steps[T]]) -> Steps[T]:
    """One try. Raises CertifyError, httpx.HTTPError, or ValueError for an answer that is none of ours."""
    response = yield Send(request)
    caller.answered = True
    if not response.is_success:
        raise refusal(caller.url, response, (yield from whole()))
    yield from read(response)


def whole() -> Generator[Rest, bytes, bytes]:
    """The body."""
    pieces = []
    while piece := (yield Rest()):
        pieces.append(piece)
    return b"".join(pieces)


def _ours(url: str, error: Exception, tries: int) -> CertifyError:
    if isinstance(error, httpx.HTTPError):
        return unreachable(url, error, tries)
    if isinstance(error, CertifyError):
        if tries > 1 and error.code is None and error.status is not None:  # a balancer's, which says little
            error.args = (f"{error}, tried {tries} times",)
        return error
    return foreign(url)
