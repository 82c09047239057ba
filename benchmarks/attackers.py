"""Clients that mean harm, on raw sockets to 127.0.0.1: few in kind, bounded in number and in time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Event
from typing import Any

from benchmarks.hostile import ATTACKS as BODIES
from benchmarks.hostile import build
from benchmarks.limit_pictures import LIMIT_PICTURES

__all__ = ("ATTACKS", "Attack", "attack", "form", "post")

# Of the hostile bodies: the service's default limit is 10 MiB.
_BODY_BYTES = 10 * 2**20 - 1024
# Between two attempts of one attacker: a flood of connections that are refused would only measure the kernel.
_PAUSE_SECONDS = 0.01
# Attackers are elsewhere: honest clients ask from 127.0.0.1. All of 127/8 is this machine.
_ADDRESS = ("127.0.0.2", 0)
_IP_BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>
# A connection that is answered nothing is given up, so that no attack outlives its time.
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Attack:
    """`connections` clients, each running `once(port, requests)` again and again."""

    connections: int
    once: Callable[[int, bytes], Coroutine[Any, Any, None]]
    requests: Callable[[], Sequence[bytes]]  # each client's next one, in turn


def form(image: bytes, **fields: object) -> bytes:
    """A multipart body with the boundary that post() declares."""
    parts = [f'--b\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    return b"".join([*parts, head, image, b"\r\n--b--\r\n"])


def post(
    body: bytes, *, kind: str = "multipart/form-data; boundary=b", key: str = "", length: int | None = None
) -> bytes:
    """A whole request, or one that promises `length` bytes."""
    size = len(body) if length is None else length
    credentials = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"POST /certify HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n{credentials}"
    return f"{head}Connection: close\r\n\r\n".encode() + body


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = socket.socket()
    connection.setblocking(False)
    # Else binding takes a port from all connections of this machine, and a flood soon has taken every one.
    connection.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    connection.bind(_ADDRESS)
    try:
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        return await asyncio.open_connection(sock=connection)
    except BaseException:
        connection.close()
        raise


async def ask(port: int, request: bytes) -> None:
    """Send it and read the answer to its end."""
    reader, writer = await _connect(port)
    with contextlib.closing(writer):
        writer.write(request)
        await writer.drain()
        while await reader.read(65_536):
            pass


async def leave(port: int, request: bytes) -> None:
    """Send it and hang up at once."""
    _, writer = await _connect(port)
    with contextlib.closing(writer):
        writer.write(request)
        await writer.drain()


async def stay(port: int, request: bytes) -> None:
    """Send it, and nothing more, until the other side closes."""
    reader, writer = await _connect(port)
    with contextlib.closing(writer):
        writer.write(request)
        await reader.read()


async def drip(port: int, request: bytes) -> None:
    """The head, and then one byte a second."""
    _, writer = await _connect(port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.closing(writer):
        head = request.index(b"\r\n\r\n") + 4
        writer.write(request[:head])
        for byte in request[head:]:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(1.0)


def attacks(image: bytes, key: str) -> dict[str, Attack]:
    """By name. image: an honest picture's file; key: the attacker's, or empty."""
    send = partial(post, key=key)
    alphas = [f"{99 - n % 90}e-{5 + n // 90}" for n in range(200)]  # two digits, so that each is a valid question
    large = [send(form(image, samples=100_000, alpha=alpha)) for alpha in alphas]
    small = [send(form(image, radius=0.25, alpha=alpha)) for alpha in alphas]

    def hostile() -> list[bytes]:
        return [send(build(name, _BODY_BYTES), kind=BODIES[name][0]) for name in BODIES]

    def shown(make: Callable[[], bytes]) -> list[bytes]:
        return [send(form(make(), resize="true", samples=1000))]

    found = {
        "hostile bodies": Attack(connections=8, once=ask, requests=hostile),
        "300 silent connections": Attack(connections=300, once=stay, requests=lambda: [b""]),
        "300 half heads": Attack(connections=300, once=stay, requests=lambda: [b"POST /certify HTTP/1.1\r\nHost: "]),
        "68 heads without a body": Attack(connections=68, once=stay, requests=lambda: [send(b"", length=1000)]),
        "68 bodies, one byte a second": Attack(connections=68, once=drip, requests=lambda: small[:1]),
        "30 bodies without their last byte": Attack(
            connections=30, once=stay, requests=lambda: [send(form(bytes(_BODY_BYTES)), length=_BODY_BYTES + 1024)]
        ),
        "80 requests of 100,000 samples": Attack(connections=80, once=ask, requests=lambda: large),
        "clients that leave": Attack(connections=16, once=leave, requests=lambda: large),
        "tiny valid requests": Attack(connections=80, once=ask, requests=lambda: small),
    }
    for name, make in LIMIT_PICTURES.items():
        found[name] = Attack(connections=80, once=ask, requests=partial(shown, make))
    return found


ATTACKS = tuple(attacks(b"", ""))


def attack(name: str, port: int, image: bytes, key: str, seconds: float, ready: Event) -> None:
    """Run one for so many seconds from when it says that it is ready. Blocks: it has a process of its own."""
    chosen = attacks(image, key)[name]
    requests = itertools.cycle(chosen.requests())
    ready.set()
    asyncio.run(_attack(chosen, requests, port, seconds))


async def _attack(chosen: Attack, requests: Iterator[bytes], port: int, seconds: float) -> None:

    async def one() -> None:
        while True:
            # Refused, reset or timed out: what an attacker expects. It tries again.
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await chosen.once(port, next(requests))
            await asyncio.sleep(_PAUSE_SECONDS)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for _ in range(chosen.connections):
                group.create_task(one())
