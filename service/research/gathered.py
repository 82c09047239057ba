"""Images that are asked about one by one, and sent to a service together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from ..answering.schemas import CertifyAnswer
from ..client import AsyncClient
from ..errors import CertifyError

__all__ = ("Gathered",)

# Requests at once: while the last images of one are waited for, another's are in work.
_REQUESTS = 2


class Gathered:
    """certify() as often as there are images; what is asked while requests are under way goes into the next one.

    Use it inside one event loop.
    """

    def __init__(self, client: AsyncClient, fields: Mapping[str, Any]) -> None:
        self._client = client
        self._fields = fields
        self._waiting: deque[tuple[bytes, asyncio.Future[CertifyAnswer]]] = deque()
        self._senders: set[asyncio.Task[None]] = set()

    async def certify(self, data: bytes) -> CertifyAnswer:
        """The service's answer. Raises CertifyError."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((data, future))
        if len(self._senders) < _REQUESTS:
            sender = asyncio.create_task(self._send())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        answer: CertifyAnswer = await future
        return answer

    async def close(self) -> None:
        """Nobody waits any more: give up what is under way."""
        senders = [*self._senders]
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        for _, future in self._waiting:
            future.cancel()

    async def _send(self) -> None:
        await asyncio.sleep(0)  # whoever asks at the same moment goes along
        while self._waiting:
            together = [*self._waiting]
            self._waiting.clear()
            try:
                images = [data for data, _ in together]
                async with aclosing(self._client.certify_many(images, **self._fields)) as replies:
                    async for reply in replies:
                        _tell(together[reply.index][1], reply.answer or reply.error)
            except CertifyError as error:  # of all
                for _, future in together:
                    _tell(future, error)
            finally:
                for _, future in together:
                    future.cancel()  # of none that was told


def _tell(future: asyncio.Future[CertifyAnswer], said: CertifyAnswer | CertifyError | None) -> None:
    if future.done():  # answered before the others failed, or nobody waits
        return
    if isinstance(said, CertifyAnswer):
        future.set_result(said)
    elif said is not None:
        future.set_exception(said)
