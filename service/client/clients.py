"""A running service, asked over HTTP: Client waits, AsyncClient awaits; both try again by the same rule.

    with Client("http://127.0.0.1:8000") as client:
        answer = client.certify(Path("digit.png"), radius=0.3, sigmas=[0.25, 0.5])
        print(answer.outcome, answer.radius)

To certify is safe to repeat: it changes nothing, and an answer that was lost was never read. Therefore whatever passes
by itself is tried again: a full or absent service (429, 503) after its Retry-After or after a growing pause, and a
connection that fails. What comes back is a CertifyAnswer, or an error of certify.service.errors:

    RequestError          the service refuses these fields or this image; `extra` has its hints and `instance`
    QueueFull, BudgetSpent, Draining   still so after the last try
    DeadlineExceeded      the deadline came before any look was complete
    BackendUnavailable    the service cannot be reached, has a fault or no memory, or something else answers there
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import httpx
from pydantic import BaseModel

from ...models.retries import Retries, retry_after_seconds
from ..answering.schemas import CertifyAnswer, Info, Problem
from ..errors import BackendUnavailable, BudgetSpent, CertifyError, DeadlineExceeded, Draining, QueueFull, RequestError

__all__ = ("AsyncClient", "Client", "Retries", "read_image")

M = TypeVar("M", bound=BaseModel)

# A service that cannot be reached is known quickly; how long it may sample is its own business.
_TIMEOUT = httpx.Timeout(None, connect=10.0)
_PASSING_STATUS = (429, 503)
# The network's failures. A wrong address (httpx.UnsupportedProtocol) is none of them.
_PASSING_ERRORS = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)


class _Caller:
    """What both clients share: how a request is made, when it is sent again, how its answer is read.

    An exchange is a generator: it yields the seconds to wait before the request is sent, is sent the response or the
    network's error, and returns the answer. Its driver only sleeps and sends.
    """

    def __init__(self, url: str, key: str | None, retries: Retries | None) -> None:
        self.url = url.rstrip("/")
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.retries = retries or Retries()
        self._answered = False

    def _certify(self, image: bytes | Path, fields: Mapping[str, object]) -> httpx.Request:
        if not isinstance(image, bytes | Path):  # text would be sent, and refused as an image by the service
            raise TypeError(f"image: expected bytes or a Path, got {type(image).__name__}")
        name, data = (image.name, read_image(image)) if isinstance(image, Path) else ("image", image)
        with _foreign_errors(self.url):
            return httpx.Request(
                "POST",
                f"{self.url}/v1/certify",
                headers=self._headers,
                data=_texts(fields),
                files={"image": (name, data)},
            )

    def _info(self) -> httpx.Request:
        with _foreign_errors(self.url):
            return httpx.Request("GET", f"{self.url}/info", headers=self._headers)

    def _exchange(self, model: type[M]) -> Generator[float, httpx.Response | httpx.TransportError, M]:
        pause = 0.0
        attempt = 0
        while True:
            outcome = yield pause
            attempt += 1
            retry_after = None
            if isinstance(outcome, httpx.Response):
                self._answered = True
                retry_after = _retry_after(outcome)
                if outcome.status_code not in _PASSING_STATUS:
                    return self._read(outcome, model)
            if attempt >= (self.retries.attempts if self._answered else self.retries.first_contact_attempts):
                raise self._failure(outcome, attempt)
            pause = self.retries.pause(attempt, retry_after)

    def _read(self, response: httpx.Response, model: type[M]) -> M:
        with _foreign_errors(self.url):
            if response.is_success:
                return model.model_validate_json(response.content)
            raise self._error_of(Problem.model_validate_json(response.content), response)

    def _failure(self, outcome: httpx.Response | httpx.TransportError, attempts: int) -> CertifyError:
        """Of a request that was tried often enough."""
        if not isinstance(outcome, httpx.Response):
            failure = BackendUnavailable(f"{self.url}: {_cannot_be_asked(outcome)}, tried {attempts} times")
            failure.__cause__ = outcome
            return failure
        try:
            problem = Problem.model_validate_json(outcome.content)
        except ValueError:  # a balancer's own page
            return BackendUnavailable(f"{self.url}: answered {outcome.status_code}, tried {attempts} times")
        return self._error_of(problem, outcome)

    def _error_of(self, problem: Problem, response: httpx.Response) -> CertifyError:
        match problem.code:
            case "queue_full":
                return QueueFull(f"{self.url}: {problem.detail}", int(_retry_after(response) or 1))
            case "budget_spent":
                return BudgetSpent(f"{self.url}: {problem.detail}", int(_retry_after(response) or 1))
            case "draining":
                return Draining(f"{self.url}: {problem.detail}")
            case "deadline_exceeded":
                return DeadlineExceeded(problem.detail)
            case "backend_unavailable" | "internal_error" | "out_of_memory":
                return BackendUnavailable(f"{self.url}: {problem.code}: {problem.detail} ({problem.instance})")
        hints = {**(problem.model_extra or {}), "instance": problem.instance}
        hints.pop("timing", None)
        return RequestError(problem.code, problem.detail, **hints)


class Client(_Caller):
    """A service at `url`, for code that waits. Close it, or use it in `with`."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """key: of a service that asks for one."""
        super().__init__(url, key, retries)
        self._http = httpx.Client(timeout=_TIMEOUT, transport=transport)

    def certify(self, image: bytes | Path, **fields: object) -> CertifyAnswer:
        """The certificate of an image file (PNG, JPEG or WebP). fields: as GET /docs names them; None: the default.

        Raises CertifyError, as this module says.
        """
        return self._drive(self._certify(image, fields), self._exchange(CertifyAnswer))

    def info(self) -> Info:
        """The bundle, defaults and limits of the service. Raises CertifyError."""
        return self._drive(self._info(), self._exchange(Info))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drive(self, request: httpx.Request, exchange: Generator[float, httpx.Response | httpx.TransportError, M]) -> M:
        outcome: httpx.Response | httpx.TransportError | None = None
        try:
            while True:
                pause = next(exchange) if outcome is None else exchange.send(outcome)
                time.sleep(pause)
                with _foreign_errors(self.url):
                    try:
                        outcome = self._http.send(request)
                    except _PASSING_ERRORS as error:
                        outcome = error
        except StopIteration as done:
            answer: M = done.value
            return answer


class AsyncClient(_Caller):
    """A service at `url`, for code that awaits; may be asked several things at once. Close it, or use `async with`."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, key, retries)
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, transport=transport)

    async def certify(self, image: bytes | Path, **fields: object) -> CertifyAnswer:
        """As Client.certify."""
        return await self._drive(self._certify(image, fields), self._exchange(CertifyAnswer))

    async def info(self) -> Info:
        """As Client.info."""
        return await self._drive(self._info(), self._exchange(Info))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _drive(
        self, request: httpx.Request, exchange: Generator[float, httpx.Response | httpx.TransportError, M]
    ) -> M:
        outcome: httpx.Response | httpx.TransportError | None = None
        try:
            while True:
                pause = next(exchange) if outcome is None else exchange.send(outcome)
                await asyncio.sleep(pause)
                with _foreign_errors(self.url):
                    try:
                        outcome = await self._http.send(request)
                    except _PASSING_ERRORS as error:
                        outcome = error
        except StopIteration as done:
            answer: M = done.value
            return answer


def read_image(path: Path) -> bytes:
    """A file's bytes. Raises RequestError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise RequestError("missing_field", f"image: cannot be read: {exc.strerror}: {path}", field="image") from exc


def _texts(fields: Mapping[str, object]) -> dict[str, str]:
    """Fields as a form carries them: text as it is, everything else as JSON; None is left out."""
    texts = {}
    for name, value in fields.items():
        if value is not None:
            try:
                texts[name] = value if isinstance(value, str) else json.dumps(value)
            except (TypeError, ValueError) as exc:
                detail = f"{name}: expected text, a number, a list or a bool: {exc}"
                raise RequestError("out_of_range", detail, field=name) from exc
    return texts


def _retry_after(response: httpx.Response) -> float | None:
    return retry_after_seconds(response.headers.get("retry-after"))


@contextmanager
def _foreign_errors(url: str) -> Iterator[None]:
    """What httpx and pydantic raise -> BackendUnavailable."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise BackendUnavailable(f"{url}: {_cannot_be_asked(exc)}") from exc
    except ValueError as exc:  # not JSON, or of another shape
        raise BackendUnavailable(f"{url}: expected the answer of a certify service, got something else") from exc


def _cannot_be_asked(exc: Exception) -> str:
    return f"cannot be asked: {type(exc).__name__}: {exc}"
