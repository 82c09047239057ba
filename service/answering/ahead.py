"""Draws that nobody waits for yet, while the backend would idle: what a request that is nearly alone may ask next.

Votes belong to their place in a stream, so an answer is the same whether its votes were drawn ahead or not. Samples
that are never asked for are never seen, and no budget pays for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from ..backends.base import AheadDraw, Backend, DrawsAhead
from ..core import Query
from ..errors import BackendUnavailable

__all__ = ("Ahead", "Drawn", "Piece", "sharing")

# Requests that have begun and not ended, of each backend: whoever waits for a turn is among them.
_SHARING: WeakKeyDictionary[Backend, int] = WeakKeyDictionary()


@contextmanager
def sharing(backend: Backend) -> Iterator[None]:
    """Be one of those who share the backend, for the length of the block."""
    _SHARING[backend] = _SHARING.get(backend, 0) + 1
    try:
        yield
    finally:
        _SHARING[backend] -= 1


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Samples drawn ahead: those that were asked for later, and those in vain."""

    used: int = 0
    dropped: int = 0


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Draws [first, end) of a stream."""

    first: int
    end: int
    draw: AheadDraw


class Ahead:
    """One request's draws ahead. `draw(query)`: the backend's, of that stream and range."""

    def __init__(self, backend: Backend, draw: Callable[[DrawsAhead, Query], AheadDraw]) -> None:
        self._backend = backend if isinstance(backend, DrawsAhead) and backend.width() > 1 else None
        self._draw = draw
        self._shared = backend
        self._pieces: dict[tuple[int, str], list[Piece]] = {}
        self._used = self._dropped = 0
        self._closed = False

    @property
    def possible(self) -> bool:
        """Whether the backend has hands for it."""
        return self._backend is not None

    @property
    def drawn(self) -> Drawn:
        """After close()."""
        return Drawn(used=self._used, dropped=self._dropped)

    def begin(self, likely: Callable[[], Sequence[Query]], grain: int) -> None:
        """Ask for the likely next draws in pieces of `grain`, as many as this request's share of idle hands."""
        if self._backend is None or self._closed:
            return
        # Alone it may fill every hand but for what it waits for; as many requests as hands draw nothing ahead.
        share = self._backend.width() // _SHARING.get(self._shared, 1)
        most = share if share > 1 else 0
        queries = likely() if most or self._pieces else []
        for stream in self._pieces.keys() - {(query.level, query.purpose) for query in queries}:
            self._drop_all(self._pieces.pop(stream))  # no longer likely: others have its place
        free = most - sum(map(len, self._pieces.values()))
        for query in queries:
            pieces = self._pieces.setdefault((query.level, query.purpose), [])
            first, end = max([query.first, *(piece.end for piece in pieces)]), query.first + query.count
            while first < end:
                if free <= 0:
                    return
                upto = min(end, first - first % grain + grain)
                part = Query(level=query.level, purpose=query.purpose, first=first, count=upto - first)
                try:
                    pieces.append(Piece(first=first, end=upto, draw=self._draw(self._backend, part)))
                except BackendUnavailable:  # whoever waits for votes will be told
                    return
                first, free = upto, free - 1

    def take(self, query: Query) -> list[Piece]:
        """Pieces that are the first draws of `query`, without a gap, to be waited for; those it passes are dropped."""
        taken, at = [], query.first
        pieces = self._pieces.pop((query.level, query.purpose), [])
        for piece in pieces:
            if piece.first == at and piece.end <= query.first + query.count:
                taken.append(piece)
                self._used += piece.end - piece.first
                at = piece.end
            elif piece.first >= query.first + query.count:  # of a later look
                self._pieces.setdefault((query.level, query.purpose), []).append(piece)
            else:
                self._drop_all([piece])
        return taken

    def close(self) -> None:
        """Nothing more will be asked for."""
        self._closed = True
        for pieces in self._pieces.values():
            self._drop_all(pieces)
        self._pieces.clear()

    def _drop_all(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if piece.draw.drop():
                self._dropped += piece.end - piece.first
