"""Clients that never rest: each asks again as soon as it is answered."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

__all__ = ("Spell", "crowd")


@dataclass(frozen=True, kw_only=True)
class Spell:
    """seconds: what each answer took. rate: answers a second while all clients were asking."""

    seconds: tuple[float, ...]
    rate: float

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.seconds, share))


async def crowd(ask: Callable[[int], Awaitable[object]], *, clients: int, seconds: float) -> Spell:
    """ask(number of the request): until it is answered; what it raises ends the spell. Each client asks at least once.

    The rate is counted up to the last answer within the time: what is under way when it is over would otherwise be
    counted whole or not at all, and with 32 clients that is 32 answers.
    """
    began = time.perf_counter()
    numbers = itertools.count()
    took: list[float] = []
    ends: list[float] = []

    async def one() -> None:
        while True:
            start = time.perf_counter()
            await ask(next(numbers))
            now = time.perf_counter()
            took.append(now - start)
            ends.append(now - began)
            if now - began >= seconds:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(one())
    within = [end for end in ends if end <= seconds] or ends
    return Spell(seconds=tuple(took), rate=len(within) / max(within))
