"""Which Triton to ask next: one gRPC client for each address, the least busy first, names resolved again and again.

gRPC could balance by itself over one channel, but then nobody could say which replica answered, and one that runs
another bundle could not be told from the others.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import BackendUnavailable, SettingsError

if TYPE_CHECKING:
    from tritonclient.grpc.aio import InferenceServerClient

__all__ = ("Abandoned", "Replica", "Replicas", "Resolve", "look_up")

logger = logging.getLogger(__name__)
T = TypeVar("T")
# (name, port) -> the addresses that the name has now, each with its port. Raises OSError when nobody can say.
Resolve = Callable[[str, int], Awaitable[Sequence[tuple[str, int]]]]

DNS = "dns:///"
# An image of 3 x 512 x 512 in float32 is 3 MiB; gRPC's own limit for what is received is 4.
MESSAGE_BYTES = 16 * 2**20
# Giving channel arguments drops all of tritonclient's own, so everything that matters stands here.
CHANNEL = (
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    # Triton allows one ping in 300 s without data and closes the connection of who sends more. A peer that died
    # silently is found sooner, by the facts that it is asked for every few seconds.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # gRPC waits up to two minutes before it tries a lost server again; a restarted one is back in seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
REST_SECONDS = 1.0  # a replica that failed is left alone so long, if another one is there


class Abandoned(Exception):
    """A call was cancelled, and not by who made it: its connection was closed, or its server counts as lost."""


class Replica:
    """One server. `url` is HOST:PORT; times are the event loop's."""

    def __init__(self, url: str) -> None:
        from tritonclient.grpc.aio import InferenceServerClient

        self.url = url
        self.client: InferenceServerClient = InferenceServerClient(url, channel_args=CHANNEL)
        self.rests_until = 0.0
        self.refusal: str | None = None  # why its votes would not count
        self._calls: set[asyncio.Task[Any]] = set()

    @property
    def in_flight(self) -> int:
        """Calls that it has not answered yet."""
        return len(self._calls)

    async def ask(self, call: Coroutine[Any, Any, T]) -> T:
        """Await one of the client's calls. Raises what it raises, and Abandoned when others have cancelled it."""
        from grpc.aio import UsageError

        task = asyncio.create_task(call)
        self._calls.add(task)
        try:
            return await task
        except UsageError as error:  # closed before the call had begun
            raise Abandoned(f"the connection to {self.url} is closed") from error
        except asyncio.CancelledError:
            # A closed channel, too, says CancelledError. In a task group that would pass for the end of our own work,
            # and a slice would be missing from the votes.
            if (ours := asyncio.current_task()) is None or ours.cancelling():
                raise
            raise Abandoned(f"the call to {self.url} was given up") from None
        finally:
            self._calls.discard(task)

    def rest(self, seconds: float = REST_SECONDS) -> None:
        """Ask others first for a while: it has just failed."""
        self.rests_until = max(self.rests_until, asyncio.get_running_loop().time() + seconds)

    def refuse(self, why: str) -> None:
        """Do not ask it until welcome(): it does not run what the others run."""
        if self.refusal is None:
            logger.error("triton at %s refused: %s", self.url, why)
        self.refusal = why

    def welcome(self) -> None:
        """It has just answered, and runs what the others run."""
        self.refusal, self.rests_until = None, 0.0

    def abandon(self) -> None:
        """Give up the calls that it has not answered: each raises Abandoned where it is awaited."""
        for task in self._calls:
            task.cancel()

    async def leave(self, seconds: float) -> None:
        """Close the connection when the calls under way are answered, at the latest after `seconds`."""
        try:
            if self._calls:
                await asyncio.wait(self._calls, timeout=seconds)
        finally:
            self.abandon()
            await self.client.close()


class Replicas:
    """`targets`: HOST:PORT, or dns:///NAME:PORT for every address that NAME has now and later."""

    def __init__(self, targets: Sequence[str], *, leave_seconds: float, resolve: Resolve | None = None) -> None:
        """leave_seconds: how long a server whose address is gone may still answer what it was asked.

        resolve: what looks names up; None: the system's resolver. Raises SettingsError for a target of another form.
        """
        if not targets:
            raise SettingsError("CERTIFY_TRITON_URL: expected HOST:PORT or dns:///NAME:PORT, got nothing")
        self._urls = {target: [] if target.startswith(DNS) else [target] for target in targets}
        for target in self._urls:
            _split(target)
        self._leave_seconds = leave_seconds
        self._look_up = resolve or look_up
        self._replicas: dict[str, Replica] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Close every connection; a second call does nothing."""
        replicas, self._replicas = self._replicas, {}
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, *(r.client.close() for r in replicas.values()), return_exceptions=True)

    def __len__(self) -> int:
        return len(self._replicas)

    def __iter__(self) -> Iterator[Replica]:
        return iter(tuple(self._replicas.values()))

    def choose(self) -> Replica:
        """The replica to ask: of those not resting the least busy, else whichever has rested longest.

        Raises BackendUnavailable when there is none, or when all of them are refused.
        """
        willing = [replica for replica in self if replica.refusal is None]
        if not willing:
            refusals = "; ".join(f"{replica.url}: {replica.refusal}" for replica in self)
            raise BackendUnavailable(f"no triton replica can be asked ({refusals or 'its name has no address'})")
        now = asyncio.get_running_loop().time()
        # The rest counts first, so that a failed one is asked only when every other has failed later.
        replica = min(willing, key=lambda r: (max(r.rests_until, now), r.in_flight))
        # Moved to the end: among equals the one asked longest ago comes first, which is round-robin.
        self._replicas[replica.url] = self._replicas.pop(replica.url)
        return replica

    async def resolve(self) -> None:
        """Bring the clients in line with what the names mean now. Connections are made when they are first used."""
        for target in self._urls:
            if target.startswith(DNS):
                host, port = _split(target)
                try:
                    self._urls[target] = [_url(*address) for address in await self._look_up(host, port)]
                except (OSError, UnicodeError) as error:  # UnicodeError: no host name, says its encoding
                    # A resolver that is down says nothing about the servers: keep those that are known.
                    logger.warning("triton: cannot resolve %s: %s", host, error)
        urls = dict.fromkeys(url for known in self._urls.values() for url in known)
        for url in urls:
            if url not in self._replicas:
                logger.info("triton: found %s", url)
                self._replicas[url] = Replica(url)
        for url in self._replicas.keys() - urls.keys():
            logger.info("triton: %s has gone; what it was asked it may still answer", url)
            task = asyncio.create_task(self._replicas.pop(url).leave(self._leave_seconds))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


async def look_up(host: str, port: int) -> list[tuple[str, int]]:
    """Every address that the system's resolver has for `host`, IPv4 and IPv6. Raises OSError."""
    entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(str(address[0]), port) for _, _, _, _, address in entries]


def _url(address: str, port: int) -> str:
    """HOST:PORT as gRPC reads it, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _split(target: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT or dns:///NAME:PORT. Raises SettingsError."""
    host, colon, port = target.removeprefix(DNS).rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65_536) or "/" in host:
        raise SettingsError(f"CERTIFY_TRITON_URL: expected HOST:PORT or {DNS}NAME:PORT, got {target!r}")
    return host, int(port)
