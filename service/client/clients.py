"""Client and AsyncClient: what can be asked. How it is asked is in the modules beside this one, once for both."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from contextlib import aclosing, closing
from types import TracebackType
from typing import TypeVar, Unpack

import httpx

from ...models.retries import Retries
from ..answering.preview_schemas import Preview
from ..answering.progress_schemas import Progress
from ..answering.schemas import CertifyAnswer, Info
from . import questions
from .batches import AT_ONCE, Reply, check_images, many
from .exchanges import Caller, Steps
from .pictures import Image
from .questions import Fields, PreviewFields, SignedCertificate
from .wires import carried_out, carried_out_async

__all__ = ("AsyncClient", "Client")

T = TypeVar("T")


class Client:
    """A service at `url`, for code that waits; threads may share it. Close it, or use it in `with`."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        retries: Retries | None = None,
        timeout: float | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """key: of a service that asks for one.

        timeout: seconds for one answer or one batch, all tries together; then DeadlineExceeded. None: as long as the
        service takes, which `deadline_ms` bounds.

        Raises TypeError or ValueError for what these cannot be.
        """
        self._caller = Caller(url, key, retries, timeout)
        self._http = httpx.Client(timeout=None, transport=transport)

    @property
    def url(self) -> str:
        return self._caller.url

    def certify(
        self, image: Image, *, progress: Callable[[Progress], object] | None = None, **fields: Unpack[Fields]
    ) -> CertifyAnswer:
        """The certificate of an image. fields: as GET /docs names them; None: the default.

        progress: called with what is proved so far, at most ten times a second.

        Raises CertifyError, as certify.service.client says.
        """
        if progress is None:
            return self._one(questions.certified(self._caller, image, fields))
        with closing(carried_out(self._http, questions.watched(self._caller, image, fields))) as all_said:
            for said in all_said:
                if isinstance(said, CertifyAnswer):
                    return said
                progress(said)
        raise AssertionError("the last that is said is an answer")

    def certify_many(
        self, images: Iterable[Image], *, at_once: int = AT_ONCE, **fields: Unpack[Fields]
    ) -> Generator[Reply, None, None]:
        """A reply for each image, as it is ready: those of one request, `at_once` of them, come in any order.

        Images are taken as they are needed, so that there may be any number. What is wrong with one is its reply's
        error. Raises CertifyError for what is wrong with all.
        """
        check_images(images)
        return carried_out(self._http, many(self._caller, fields, at_once), images)

    def certificate(self, image: Image, **fields: Unpack[Fields]) -> SignedCertificate:
        """The same answer, signed by the service (docs/certificates.md). Raises CertifyError."""
        return self._one(questions.certificate(self._caller, image, fields))

    def preview(self, image: Image, **fields: Unpack[PreviewFields]) -> Preview:
        """What the network sees: the image with noise and denoised, a few draws of each scale, as PNGs in data URLs.

        Raises CertifyError; BackendUnavailable of a service that has no pictures to show.
        """
        return self._one(questions.preview(self._caller, image, fields))

    def info(self) -> Info:
        """The bundle, defaults and limits of the service. Raises CertifyError."""
        return self._one(questions.info(self._caller))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _one(self, steps: Steps[T]) -> T:
        (value,) = carried_out(self._http, steps)
        return value


class AsyncClient:
    """A service at `url`, for code that awaits; may be asked several things at once. Close it, or use `async with`."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        retries: Retries | None = None,
        timeout: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As Client's."""
        self._caller = Caller(url, key, retries, timeout)
        self._http = httpx.AsyncClient(timeout=None, transport=transport)

    @property
    def url(self) -> str:
        return self._caller.url

    async def certify(
        self, image: Image, *, progress: Callable[[Progress], object] | None = None, **fields: Unpack[Fields]
    ) -> CertifyAnswer:
        """As Client.certify. progress is called, not awaited."""
        if progress is None:
            return await self._one(questions.certified(self._caller, image, fields))
        async with aclosing(carried_out_async(self._http, questions.watched(self._caller, image, fields))) as all_said:
            async for said in all_said:
                if isinstance(said, CertifyAnswer):
                    return said
                progress(said)
        raise AssertionError("the last that is said is an answer")

    def certify_many(
        self, images: Iterable[Image] | AsyncIterable[Image], *, at_once: int = AT_ONCE, **fields: Unpack[Fields]
    ) -> AsyncGenerator[Reply, None]:
        """As Client.certify_many, for `async for`; who leaves early closes it (contextlib.aclosing)."""
        check_images(images)
        return carried_out_async(self._http, many(self._caller, fields, at_once), images)

    async def certificate(self, image: Image, **fields: Unpack[Fields]) -> SignedCertificate:
        """As Client.certificate."""
        return await self._one(questions.certificate(self._caller, image, fields))

    async def preview(self, image: Image, **fields: Unpack[PreviewFields]) -> Preview:
        """As Client.preview."""
        return await self._one(questions.preview(self._caller, image, fields))

    async def info(self) -> Info:
        """As Client.info."""
        return await self._one(questions.info(self._caller))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _one(self, steps: Steps[T]) -> T:
        (value,) = [value async for value in carried_out_async(self._http, steps)]
        return value
