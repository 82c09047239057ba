"""Which Triton to ask next: one gRPC client for each address, the least busy first, names resolved again and again.

gRPC could balance by itself over one channel, but then nobody could say which replica answered, and one that runs
another bundle could not be told from the others.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import BackendUnavailable, SettingsError

if TYPE_CHECKING:
    from tritonclient.grpc.aio import InferenceServerClient

__all__ = ("Replica", "Replicas")

logger = logging.getLogger(__name__)

DNS = "dns:///"
# An image of 3 x 512 x 512 in float32 is 3 MiB; gRPC's own limit for what is received is 4.
MESSAGE_BYTES = 16 * 2**20
# Giving channel arguments drops all of tritonclient's own, so everything that matters stands here.
CHANNEL = (
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    # Triton allows one ping in 300 s without data and closes the connection of who sends more. A peer that died
    # silently is found sooner by the deadline that every call has.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # gRPC waits up to two minutes before it tries a lost server again; a restarted one is back in seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
RESOLVE_SECONDS = 5.0  # how soon a new pod is found; a lookup costs a headless Service nothing
REST_SECONDS = 1.0  # a replica that failed is left alone so long, if another one is there
REFUSED_SECONDS = 30.0  # one with another bundle: rolled back or replaced at the earliest by then


@dataclass(eq=False)
class Replica:
    """One server. Times are the event loop's."""

    url: str  # HOST:PORT
    client: InferenceServerClient
    in_flight: int = 0
    rests_until: float = 0.0
    refusal: str | None = None  # why its votes would not count, until rests_until

    def rest(self) -> None:
        """Ask others first for a while: it has just failed."""
        self.rests_until = asyncio.get_running_loop().time() + REST_SECONDS

    def refuse(self, why: str) -> None:
        """Do not ask it for a longer while: it does not run what the others run."""
        if self.refusal is None:
            logger.error("triton at %s refused: %s", self.url, why)
        self.refusal, self.rests_until = why, asyncio.get_running_loop().time() + REFUSED_SECONDS


class Replicas:
    """`targets`: HOST:PORT, or dns:///NAME:PORT for every address that NAME has now and later."""

    def __init__(self, targets: Sequence[str]) -> None:
        """Raises SettingsError for a target of another form."""
        if not targets:
            raise SettingsError("CERTIFY_TRITON_URL: expected HOST:PORT or dns:///NAME:PORT, got nothing")
        self._targets = tuple(dict.fromkeys(targets))
        for target in self._targets:
            _split(target)
        self._replicas: dict[str, Replica] = {}
        self._refresher: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Make the clients and go on resolving names. Connections are made when they are first used."""
        await self._resolve()
        if any(target.startswith(DNS) for target in self._targets):
            self._refresher = asyncio.create_task(self._refresh())

    async def close(self) -> None:
        """Close every connection; a second call does nothing."""
        if self._refresher is not None:
            self._refresher.cancel()
            await asyncio.gather(self._refresher, return_exceptions=True)
            self._refresher = None
        replicas, self._replicas = self._replicas, {}
        for replica in replicas.values():
            await replica.client.close()

    def __len__(self) -> int:
        return len(self._replicas)

    def __iter__(self) -> Iterator[Replica]:
        return iter(tuple(self._replicas.values()))

    @contextmanager
    def choose(self) -> Iterator[Replica]:
        """The replica to ask: of those not resting the least busy, else whichever has rested longest.

        Raises BackendUnavailable when there is none, or when all of them are refused.
        """
        now = asyncio.get_running_loop().time()
        for replica in self._replicas.values():
            if replica.rests_until <= now:
                replica.refusal = None
        willing = [replica for replica in self._replicas.values() if replica.refusal is None]
        if not willing:
            refusals = "; ".join(f"{replica.url}: {replica.refusal}" for replica in self)
            raise BackendUnavailable(f"no triton replica can be asked ({refusals or 'its name has no address'})")
        # The rest counts first, so that a failed one is asked only when every other has failed later.
        replica = min(willing, key=lambda r: (max(r.rests_until, now), r.in_flight))
        # Moved to the end: among equals the one asked longest ago comes first, which is round-robin.
        self._replicas[replica.url] = self._replicas.pop(replica.url)
        replica.in_flight += 1
        try:
            yield replica
        finally:
            replica.in_flight -= 1

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(RESOLVE_SECONDS)
            await self._resolve()

    async def _resolve(self) -> None:
        """Bring the clients in line with what the names mean now."""
        from tritonclient.grpc.aio import InferenceServerClient

        urls: list[str] = []
        for target in self._targets:
            if not target.startswith(DNS):
                urls.append(target)
                continue
            host, port = _split(target)
            try:
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as error:
                # A resolver that is down says nothing about the servers: keep those that are known.
                logger.warning("triton: cannot resolve %s: %s", host, error)
                return
            for family, _, _, _, address in found:
                urls.append(f"[{address[0]}]:{port}" if family == socket.AF_INET6 else f"{address[0]}:{port}")
        for url in dict.fromkeys(urls):
            if url not in self._replicas:
                logger.info("triton: found %s", url)
                self._replicas[url] = Replica(url, InferenceServerClient(url, channel_args=CHANNEL))
        for url in self._replicas.keys() - set(urls):
            logger.info("triton: %s has gone", url)
            # Its calls in flight fail and are asked of another one, which gives the same votes.
            await self._replicas.pop(url).client.close()


def _split(target: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT or dns:///NAME:PORT. Raises SettingsError."""
    host, colon, port = target.removeprefix(DNS).rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65_536) or "/" in host:
        raise SettingsError(f"CERTIFY_TRITON_URL: expected HOST:PORT or {DNS}NAME:PORT, got {target!r}")
    return host, int(port)
