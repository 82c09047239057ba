"""An endpoint, asked from threads: batches, tries, pace, budget, and whether it still is what was packed.

A batch has one answer, or none: what is asked again is the same pictures, and what is taken is one whole answer to
them. Nothing of a call that failed is kept.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from ..errors import RemoteError
from .answers import Answer, Passing
from .declared import KNOWN, Remote, parse_url
from .limits import Limits
from .probe import known_pictures, probed

__all__ = ("Endpoint",)

logger = logging.getLogger(__name__)
T = TypeVar("T")

# From one look at its metadata to the next, while it is asked. Each answer's own version is compared besides.
WATCH_SECONDS = 30.0
# A known picture goes along with a call of so many that has room; after so many calls without one it has its own.
SHARE = 16
# A connection that is cancelled while it is begun makes anyio warn of what it never awaited: a moment to begin.
CONNECT_SECONDS = 0.05
PATIENCE = 2.0  # times the longest time of one call: after so long no call is made again


class _Protocol(Protocol):
    """Of models.remote.oip_http, oip_grpc and plain_json."""

    async def about(self) -> dict[str, Any]: ...
    async def ask(self, pictures: NDArray[np.float32], remote: Remote, names: Sequence[str]) -> Answer: ...
    async def close(self) -> None: ...


class Endpoint:
    """Safe to call from several threads. It must be closed."""

    def __init__(self, url: str, limits: Limits) -> None:
        """Nothing is asked yet. Raises BundleError for an address of no known form."""
        self._address = parse_url(url)
        self._url = url
        self._limits = limits
        self._remote: Remote | None = None
        self._names: Sequence[str] = ()
        self._known: NDArray[np.float32] | None = None  # pictures that go along
        self._checks = self._unchecked = 0  # known pictures that went along; calls since
        self._version = self._address.version  # or of the first answer that named one
        self._answered = False
        self._next_call = self._next_look = 0.0  # in the loop's time
        self._asking: set[asyncio.Task[Any] | None] = set()  # a call is under way
        self._given_up: WeakSet[asyncio.Task[Any] | None] = WeakSet()  # whose answer nobody waits for
        self.outdated = False  # it is no longer what was packed
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="certify-remote", daemon=True)
        self._thread.start()
        self._closed = False
        self._closing = threading.Lock()
        self._turns = asyncio.Semaphore(limits.connections)
        self._protocol: _Protocol | None = None
        try:
            self._protocol = self._wait(self._connect())
        except BaseException:
            self.close()
            raise

    def about(self) -> dict[str, Any]:
        """Its metadata, as models.remote.metadata has it; {} if it has none. Raises RemoteError."""
        return self._wait(self._about())

    def probe(self, remote: Remote, names: Sequence[str]) -> tuple[int, ...]:
        """The known pictures' classes. Raises RemoteError if it answers as no function of a picture would."""
        self._remote, self._names = remote, names
        return self._wait(self._named(probed(self._call, remote.input, remote.max_batch)))

    def open(self, remote: Remote, names: Sequence[str]) -> None:
        """From now on it is asked as a bundle says. Raises RemoteError unless it is what was packed."""
        rest = self._limits.rest
        try:
            self._compare(self.about(), remote.reported)
            if (got := self.probe(remote, names)) != remote.known:
                raise self._other(f"the known pictures' classes {list(remote.known)}", str(list(got)))
        except RemoteError as error:
            rest.begin(str(error))
            raise
        rest.end()
        self._known = known_pictures(remote.input)

    @property
    def model(self) -> str:
        """ "digits 3": its model's name and version, as far as anybody says."""
        return " ".join(filter(None, (self._address.model, self._version)))

    def labels(self, pictures: NDArray[np.float32]) -> NDArray[np.int64]:
        """The class of each, int64 (N,). pictures: float32 (N, C, H, W), as declared. Raises RemoteError."""
        return self._wait(self._labels(pictures))

    def close(self) -> None:
        """Give up what is under way; a second call does nothing."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        with self._closing:  # what comes to the loop before its end is ended there; later nothing would run it
            if self._closed:
                work.close()
                raise RemoteError(f"{self._url}: closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except (CancelledError, asyncio.CancelledError):  # closed meanwhile; a connection that closes says so too
            raise RemoteError(f"{self._url}: given up") from None

    async def _connect(self) -> _Protocol:
        match self._address.protocol:
            case "oip-grpc":
                from .oip_grpc import OipGrpc

                return OipGrpc(self._url, self._limits)
            case "oip-http":
                from .oip_http import OipHttp

                return OipHttp(self._url, self._limits)
        from .plain_json import PlainJson

        return PlainJson(self._url, self._limits)

    async def _disconnect(self) -> None:
        ours = asyncio.current_task()
        await asyncio.sleep(CONNECT_SECONDS)
        while tasks := [task for task in asyncio.all_tasks() if task is not ours]:  # one that ends may begin another
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._protocol is not None:
            await self._protocol.close()
        await self._loop.shutdown_asyncgens()

    async def _labels(self, pictures: NDArray[np.float32]) -> NDArray[np.int64]:
        assert self._remote is not None
        await self._look()
        size = self._remote.max_batch
        parts = [pictures[at : at + size] for at in range(0, len(pictures), size)]
        tasks = [asyncio.create_task(self._part(part)) for part in parts]
        try:
            # No task group: in it a call that a library cancelled would pass for the end of our own work.
            labels: NDArray[np.int64] = np.concatenate(await asyncio.gather(*tasks))
        finally:
            self._give_up(tasks)
        if labels.shape != (len(pictures),):
            raise RemoteError(f"{self._url}: expected {len(pictures)} classes, got {len(labels)}")
        return labels

    def _give_up(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        """Nobody waits for them. A call under way is paid for already, and ends by itself; no other is made."""
        for task in tasks:
            if task in self._asking:
                self._given_up.add(task)
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
            else:
                task.cancel()

    async def _part(self, pictures: NDArray[np.float32]) -> NDArray[np.int64]:
        """Of one call. A known picture goes along, each time at another place, or in a call of its own."""
        assert self._remote is not None and self._known is not None
        along = SHARE <= len(pictures) < self._remote.max_batch
        if not along:
            self._unchecked += 1
            if self._unchecked >= SHARE:
                await self._part_with_check(pictures[:0])
            return (await self._call(pictures)).labels
        return await self._part_with_check(pictures)

    async def _part_with_check(self, pictures: NDArray[np.float32]) -> NDArray[np.int64]:
        assert self._remote is not None and self._known is not None
        which, place = self._checks % KNOWN, self._checks % (len(pictures) + 1)
        self._checks, self._unchecked = self._checks + 1, 0
        answer = await self._call(np.insert(pictures, place, self._known[which], axis=0))
        if (got := answer.labels[place]) != (expected := self._remote.known[which]):
            raise self._other(f"class {expected} for known picture {which}", str(got))
        return np.delete(answer.labels, place)

    async def _call(self, pictures: NDArray[np.float32]) -> Answer:
        assert self._remote is not None
        limits, remote = self._limits, self._remote

        async def once() -> Answer:
            await self._pace()
            task = asyncio.current_task()
            if task in self._given_up or self._closed:
                raise RemoteError("given up")
            limits.spent.add(len(pictures), max_calls=limits.max_calls, max_images=limits.max_images)
            self._asking.add(task)
            try:
                return await self._by().ask(pictures, remote, self._names)
            finally:
                self._asking.discard(task)

        async with self._turns:
            answer = await self._tried(once)
        if answer.version:
            self._version = self._version or answer.version
            if answer.version != self._version:
                raise self._other(f"version {self._version}, as before", answer.version)
        return answer

    async def _tried(self, once: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """once(), again and again while it fails of what may pass. Raises RemoteError, which names the address."""
        retries, began = self._limits.retries, self._loop.time()
        for attempt in itertools.count(1):
            try:
                done = await once()
            except Passing as error:
                attempts = retries.attempts if self._answered else retries.first_contact_attempts
                # Who waits for it waits no longer than some calls take (service.settings.call_seconds).
                if attempt >= attempts or self._loop.time() - began >= PATIENCE * self._limits.seconds:
                    raise RemoteError(f"{self._url}: {error}, tried {attempt} times") from error
                logger.info("%s: %s; asking again", self._url, error)
                await asyncio.sleep(retries.pause(attempt, error.retry_after))
            except RemoteError as error:
                raise RemoteError(f"{self._url}: {error}") from error
            else:
                self._answered = True
                return done
        raise AssertionError("unreachable")

    async def _named(self, work: Coroutine[Any, Any, T]) -> T:
        """Errors name the address, once."""
        try:
            return await work
        except RemoteError as error:
            raise error if str(error).startswith(self._url) else RemoteError(f"{self._url}: {error}") from error

    async def _pace(self) -> None:
        if self._limits.calls_per_second is not None:
            now = self._loop.time()
            at = max(now, self._next_call)
            self._next_call = at + 1 / self._limits.calls_per_second
            await asyncio.sleep(at - now)

    async def _about(self) -> dict[str, Any]:
        return await self._tried(self._by().about)

    def _by(self) -> _Protocol:
        assert self._protocol is not None
        return self._protocol

    async def _look(self) -> None:
        """Now and then, whether it still says of itself what it said. That it cannot be asked, a call will find."""
        assert self._remote is not None
        if not self._remote.reported or self._loop.time() < self._next_look:
            return
        self._next_look = self._loop.time() + WATCH_SECONDS
        try:
            now = await self._by().about()
        except (Passing, RemoteError) as error:
            logger.warning("%s: its metadata cannot be read: %s", self._url, error)
        else:
            self._compare(now, self._remote.reported)

    def _compare(self, now: Mapping[str, Any], reported: Mapping[str, Any]) -> None:
        for name in sorted({*now, *reported}):
            if now.get(name) != reported.get(name):
                raise self._other(f"{name} {reported.get(name)}", str(now.get(name)))

    def _other(self, expected: str, got: str) -> RemoteError:
        self.outdated = True
        return RemoteError(
            f"{self._url}: runs another model than when the bundle was packed: expected {expected}, got {got}; pack "
            "the bundle again, or bring that model back"
        )
