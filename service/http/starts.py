"""Which request begins next: few in each round of the event loop, in turn by address, and probes at once.

The kernel hands out connections first come first served, so they are taken from it fast: a newcomer must not stand
behind a thousand that were sent in vain. What is bounded is how many requests begin in a round of the loop. A round so
stays short whoever asks, each address has its turn, and whoever leaves before it costs no more than a connection.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable

__all__ = ("Starts",)

# Beginning takes about a millisecond; meanwhile a round takes several connections from the kernel (http/server.py).
_IN_A_ROUND = 2


class Starts:
    """Use it inside one event loop. Waiters are connections: each has one request at most that waits to begin."""

    def __init__(self) -> None:
        # Lane -> its waiters and how each begins, both in the order of their turns.
        self._lanes: OrderedDict[str, dict[Hashable, Callable[[], None]]] = OrderedDict()
        self._left = _IN_A_ROUND
        self._round_comes = False

    def ask(self, waiter: Hashable, lane: str, begin: Callable[[], None]) -> None:
        """begin() now, or in this lane's turn. lane: whom turns go round by."""
        if self._left and not self._lanes:
            self._left -= 1
            begin()
        else:
            self._lanes.setdefault(lane, {})[waiter] = begin
        self._await_round()

    def forget(self, waiter: Hashable, lane: str) -> bool:
        """It has left. Whether it was waiting."""
        waiting = self._lanes.get(lane, {})
        if waiting.pop(waiter, None) is None:
            return False
        if not waiting:
            del self._lanes[lane]
        return True

    def waits(self, waiter: Hashable, lane: str) -> bool:
        return waiter in self._lanes.get(lane, {})

    def _await_round(self) -> None:
        if not self._round_comes:
            self._round_comes = True
            asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        self._round_comes, self._left = False, _IN_A_ROUND
        while self._left and self._lanes:
            lane, waiting = self._lanes.popitem(last=False)
            begin = waiting.pop(next(iter(waiting)))
            if waiting:
                self._lanes[lane] = waiting
            self._left -= 1
            begin()
        if self._left < _IN_A_ROUND:
            self._await_round()
