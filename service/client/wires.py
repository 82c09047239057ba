"""Steps carried out with httpx: by a thread that waits, and by a task that awaits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from typing import TypeVar

import httpx

from ..errors import CertifyError
from .exchanges import Give, Next, Rest, Send, Steps, Wait, Work, advance
from .pictures import Image

__all__ = ("carried_out", "carried_out_async")

T = TypeVar("T")
_NO_BYTES: tuple[bytes, ...] = ()


def carried_out(http: httpx.Client, steps: Steps[T], images: Iterable[Image] = ()) -> Generator[T, None, None]:
    """What the steps give. images: those that they ask for. Closing it ends the request."""
    wire, source = _Wire(http), iter(images)
    outcome: object = None
    try:
        while True:
            try:
                command = advance(steps, outcome)
            except StopIteration:
                return
            outcome = None
            if isinstance(command, Give):
                yield command.value
            elif isinstance(command, Next):
                outcome = _first(source)
            else:
                try:
                    outcome = wire.do(command)
                except (httpx.HTTPError, CertifyError) as error:
                    outcome = error
    finally:
        wire.close()


async def carried_out_async(
    http: httpx.AsyncClient, steps: Steps[T], images: Iterable[Image] | AsyncIterable[Image] = ()
) -> AsyncGenerator[T, None]:
    """As carried_out."""
    wire, source = _AsyncWire(http), _asynchronous(images)
    outcome: object = None
    try:
        while True:
            try:
                command = advance(steps, outcome)
            except StopIteration:
                return
            outcome = None
            if isinstance(command, Give):
                yield command.value
            elif isinstance(command, Next):
                outcome = await _first_async(source)
            else:
                try:
                    outcome = await wire.do(command)
                except (httpx.HTTPError, CertifyError) as error:
                    outcome = error
    finally:
        await wire.close()


class _Wire:
    """One request at a time."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._response: httpx.Response | None = None
        self._body: Iterator[bytes] = iter(_NO_BYTES)

    def do(self, command: Wait | Work | Send | Rest) -> object:
        match command:
            case Wait():
                time.sleep(command.seconds)
            case Work():
                return command.do()
            case Send():
                self.close()
                self._response = self._http.send(command.request, stream=True)
                self._body = self._response.iter_bytes()
                return self._response
            case Rest():
                return next(self._body, b"")
        return None

    def close(self) -> None:
        if self._response is not None:
            self._response.close()


class _AsyncWire:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._response: httpx.Response | None = None
        self._body: AsyncIterator[bytes] = _asynchronous(_NO_BYTES)

    async def do(self, command: Wait | Work | Send | Rest) -> object:
        match command:
            case Wait():
                await asyncio.sleep(command.seconds)
            case Work():
                return await asyncio.to_thread(command.do)
            case Send():
                await self.close()
                self._response = await self._http.send(command.request, stream=True)
                self._body = self._response.aiter_bytes()
                return self._response
            case Rest():
                return await anext(self._body, b"")
        return None

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()


def _first(source: Iterator[T]) -> tuple[T] | None:
    for each in source:
        return (each,)
    return None


async def _first_async(source: AsyncIterator[T]) -> tuple[T] | None:
    async for each in source:
        return (each,)
    return None


async def _asynchronous(source: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(source, AsyncIterable):
        async for each in source:
            yield each
    else:
        for each in source:
            yield each
