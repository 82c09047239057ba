"""What each client may still spend: noise samples in this minute, reserved before any work and given back when unused.

The `limits` package keeps the counts, in fixed minutes: in this process, or in Redis or Valkey for several gateways.
While that storage is away each gateway counts for itself: a client may then spend its budget once at each of them,
which is better than refusing everybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage, Storage

from ..errors import BudgetSpent, SettingsError
from .keys import Client

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool as Pool

__all__ = ("Budgets", "Reservation")

logger = logging.getLogger(__name__)

# A storage beside the gateway answers in a millisecond. One that takes so long (stopped, or behind a network that is
# cut) is not asked for the next seconds: each of a request's few calls would wait for it.
_STORAGE_SECONDS, _PAUSE_SECONDS = 1.0, 5.0
T = TypeVar("T")


class Reservation:
    """Samples taken from a budget; what `used` does not say was used goes back."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.used = 0


class Budgets:
    """`storage`: memory://, or redis://HOST:PORT/DB (rediss:// with TLS), which Valkey answers to as well.

    Raises SettingsError for another one.
    """

    def __init__(self, storage: str) -> None:
        self._storage, self._pool = _open(storage)
        self._asked_again = -math.inf  # when, in time.monotonic's seconds
        self._here = MemoryStorage() if not isinstance(self._storage, MemoryStorage) else self._storage

    async def close(self) -> None:
        """Close the connections to the storage, if there are any."""
        if self._pool is not None:
            await self._pool.aclose()

    @contextlib.asynccontextmanager
    async def reserve(self, client: Client, samples: int) -> AsyncIterator[Reservation]:
        """Take `samples` for the length of the block; give back those that were not used. Raises BudgetSpent."""
        reservation = Reservation(samples)
        if client.samples_a_minute is None:
            yield reservation
            return
        _check_whole(client, samples)
        key, seconds = _key(client)
        taken = asyncio.ensure_future(self._add(key, seconds, samples))
        reset: int | None = None
        try:
            # Shielded: a client that leaves meanwhile has taken them all the same, and they must go back.
            spent = await asyncio.shield(taken)
            reset = await self._reset(key)
            if spent > client.samples_a_minute:
                raise _spent(client, samples, spent - samples, reset)
            yield reservation
        finally:
            await taken
            unused = reservation.samples - min(reservation.used, reservation.samples)
            # Into the minute that it was taken from, and into no other: a later one would get more than its due.
            if unused and reset in (None, await self._reset(key)):
                await self._add(key, seconds, -unused)

    async def check(self, client: Client, samples: int) -> None:
        """Raise BudgetSpent where reserve() would now; nothing is taken."""
        if client.samples_a_minute is None:
            return
        _check_whole(client, samples)
        key, _ = _key(client)
        spent = await self._spent(key)
        if spent + samples > client.samples_a_minute:
            raise _spent(client, samples, spent, await self._reset(key))

    async def _spent(self, key: str) -> int:
        return await self._ask(lambda storage: storage.get(key))

    async def _add(self, key: str, seconds: int, samples: int) -> int:
        return await self._ask(lambda storage: storage.incr(key, seconds, amount=samples))

    async def _reset(self, key: str) -> int:
        """When the minute ends, in whole seconds of the wall clock."""
        return int(await self._ask(lambda storage: storage.get_expiry(key)))

    async def _ask(self, call: Callable[[Storage], Awaitable[T]]) -> T:
        """The storage; while it is away, what is counted here."""
        if self._storage is not self._here and time.monotonic() >= self._asked_again:
            try:
                async with asyncio.timeout(_STORAGE_SECONDS):
                    return await call(self._storage)
            except Exception as error:
                self._away(error)
        return await call(self._here)

    def _away(self, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            self._asked_again = time.monotonic() + _PAUSE_SECONDS
        logger.error("budgets: the storage is away, counting here", extra={"facts": {"error": type(error).__name__}})


def _key(client: Client) -> tuple[str, int]:
    """Of a client's count, and after how many seconds it begins again."""
    assert client.samples_a_minute is not None
    item = RateLimitItemPerMinute(client.samples_a_minute, namespace="certify")
    return item.key_for(client.name), item.get_expiry()


def _check_whole(client: Client, samples: int) -> None:
    if client.samples_a_minute is not None and samples > client.samples_a_minute:
        raise BudgetSpent(
            f"samples: expected at most {client.samples_a_minute}, the budget of {client.name} for a minute, "
            f"got {samples}; ask for fewer samples",
            60,
        )


def _spent(client: Client, samples: int, spent: int, reset: int) -> BudgetSpent:
    """reset: when the minute ends."""
    assert client.samples_a_minute is not None
    left = max(0, client.samples_a_minute - spent)
    return BudgetSpent(
        f"samples: expected at most the {left} that {client.name} has left of {client.samples_a_minute} "
        f"in this minute, got {samples}",
        max(1, math.ceil(reset - time.time())),
    )


def _open(uri: str) -> tuple[Storage, Pool | None]:
    """The storage, and the pool of connections under it that is ours to close."""
    scheme = uri.partition("://")[0]
    if uri == "memory://":
        return MemoryStorage(), None
    if "://" not in uri or scheme not in ("redis", "rediss"):
        raise SettingsError(
            f"CERTIFY_BUDGET_STORAGE: expected memory:// or redis://HOST:PORT, got {scheme[:20]!r} and what follows"
        )
    try:
        from redis.asyncio import ConnectionPool

        pool = ConnectionPool.from_url(uri)
        # redis-py: Redis' own client, which Valkey answers to as well.
        options: Any = {"connection_pool": pool, "implementation": "redispy"}
        return RedisStorage(f"async+{uri}", **options), pool
    except ImportError as error:
        raise SettingsError(
            f"CERTIFY_BUDGET_STORAGE: {scheme} needs redis (pip install 'certify[budgets]'): {error}"
        ) from error
    except Exception as error:  # a port that is no number, an unknown option; its text may quote a password
        raise SettingsError(
            f"CERTIFY_BUDGET_STORAGE: expected redis://HOST:PORT/DB, got another form ({type(error).__name__})"
        ) from None
