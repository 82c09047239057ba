"""A request on its way in: key, body, what it asks. Whoever leaves ends the work. What is done with an image is in
http/certifying.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator, MutableMapping
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from ..errors import Draining, RequestError
from .context import Gateway, gateway_of
from .keys import Client

__all__ = ("SMALL_BODY", "arrived", "known", "parse", "phase", "unless_gone")

# Bodies up to it are parsed at once, in under two milliseconds at worst and a tenth of one as a rule: a thread's
# hand-over costs more. Icons and small digits are such.
SMALL_BODY = 8 * 2**10
T = TypeVar("T")
B = TypeVar("B")


async def known(request: Request) -> None:
    """Who asks, for arrived(): before anything else is said of a request. Raises Unauthorized."""
    address = request.client.host if request.client else None
    client = gateway_of(request).keys.client(request.headers.get("authorization"), address=address)
    request.state.asking, request.state.client = client, client.name


async def arrived(request: Request, gateway: Gateway) -> tuple[Client, list[bytes]]:
    """Who asks, and the whole body, in a list, so that parsing can take it out: a file that waits for its turn is kept
    once, not twice. Raises CertifyError, or ClientDisconnect.
    """
    client: Client = request.state.asking
    with gateway.admission.arrival(client), phase(request.state.phases, "body"):
        content = [await gateway.arrivals.read(request.stream(), declared=request.headers.get("content-length"))]
    if _has_left(request):  # whoever sends and leaves takes no place from others
        raise ClientDisconnect
    return client, content


def _has_left(request: Request) -> bool:
    """Whether the client is known to have left, once the body has been read.

    As Request.is_disconnected(), whose cancelled scope costs a tenth of a millisecond: what waits is closed instead.
    """
    waiting = request.receive().__await__()
    try:
        next(waiting)
    except StopIteration as came:
        return bool(came.value["type"] == "http.disconnect")
    waiting.close()
    return False


async def parse(
    content: list[bytes],
    gateway: Gateway,
    read: Callable[[bytes], B],
    check: Callable[[B], T],
    *,
    quick: Callable[[B], bool],
) -> T:
    """check(read(body)), the body taken out of `content`: in a thread, unless it is small and then `quick`.

    Raises RequestError.
    """
    size = len(content[0])
    with gateway.arrivals.parsing(size):
        parsed: list[B] = []
        if size <= SMALL_BODY:
            body = read(content.pop())
            if quick(body):
                return check(body)
            parsed.append(body)
            del body
        made: list[T | RequestError] = []

        def work() -> None:
            try:
                made.append(check(parsed.pop() if parsed else read(content.pop())))
            except RequestError as error:
                made.append(error.with_traceback(None))  # its frames have the body

        # By way of a list: the executor's futures are a circle, and what they hold stays until it is collected.
        await asyncio.get_running_loop().run_in_executor(gateway.parsers, work)
        done = made.pop()
        if isinstance(done, RequestError):
            raise done from None
        return done


@contextlib.contextmanager
def phase(phases: MutableMapping[str, float], name: str) -> Iterator[None]:
    """Notes how long the block took, for the answer's Server-Timing or the error's timing."""
    began = time.monotonic()
    try:
        yield
    finally:
        phases[name] = time.monotonic() - began


async def unless_gone(request: Request, gateway: Gateway, work: Coroutine[Any, Any, T]) -> T:
    """Do `work`, but stop it when the client leaves (ClientDisconnect) or grace is over (Draining)."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    aborted = asyncio.create_task(gateway.admission.aborted.wait())
    tasks: tuple[asyncio.Task[Any], ...] = (task, gone, aborted)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if aborted.done():
            raise Draining("the service is shutting down and its grace period is over; ask another replica")
        raise ClientDisconnect
    finally:
        for each in tasks:
            each.cancel()
        # The place is given back only when the work has really stopped.
        await asyncio.wait(tasks)
        if not task.cancelled():
            task.exception()  # seen: when the client left meanwhile, nobody else asks for it
        # An error's traceback has this frame, and a list of errors or a task in it would have the error: a body of
        # megabytes would stay in that circle until it is collected.
        del task, gone, aborted, tasks, each


async def _disconnected(request: Request) -> None:
    """Return when the client has left. The body has been read, so nothing else can arrive."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
