"""How a remote classifier may be asked: with which token, how fast, and for how much. No part of a bundle."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import RemoteError
from ..retries import Retries

__all__ = ("Limits", "Rest", "Spent")

# After an opening that failed, as of an endpoint that was exchanged: a service tries again every second, and each try
# that reaches the endpoint asks it about 80 pictures. Doubled each time, up to a quarter of an hour.
REST_SECONDS, LONGEST_REST_SECONDS = 5.0, 900.0


class Spent:
    """Calls and pictures of this process so far. Safe to call from several threads."""

    def __init__(self) -> None:
        self.calls = self.images = 0
        self._lock = threading.Lock()

    def add(self, images: int, *, max_calls: int | None, max_images: int | None) -> None:
        """One call of so many pictures, counted before it is made and whatever becomes of it. Raises RemoteError."""
        with self._lock:
            if max_calls is not None and self.calls + 1 > max_calls:
                raise _over("calls", max_calls, "CERTIFY_REMOTE_MAX_CALLS")
            if max_images is not None and self.images + images > max_images:
                raise _over("pictures", max_images, "CERTIFY_REMOTE_MAX_IMAGES")
            self.calls += 1
            self.images += images


class Rest:
    """A while in which an endpoint is not opened again. Used by one thread at a time."""

    def __init__(self) -> None:
        self._pause, self._until, self._why = REST_SECONDS, 0.0, ""

    def check(self) -> None:
        """Raises RemoteError, as the opening before did, while it lasts. Before any work is done for an opening."""
        if (left := self._until - time.monotonic()) > 0:
            raise RemoteError(f"{self._why} (asked again in {left:.0f} s)")

    def begin(self, why: str) -> None:
        """An opening has failed."""
        self._why, self._until = why, time.monotonic() + self._pause
        self._pause = min(LONGEST_REST_SECONDS, 2 * self._pause)

    def end(self) -> None:
        """An opening has not."""
        self._pause, self._until = REST_SECONDS, 0.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`spent` and `rest` belong to the process: whoever opens the bundle again goes on with them."""

    token_file: Path | None = None  # what is in it is sent as Authorization: Bearer
    seconds: float = 30.0  # for one call
    connections: int = 8  # calls under way at once
    calls_per_second: float | None = None  # None: as they come
    max_calls: int | None = None  # of this process, repeated ones too; None: no limit
    max_images: int | None = None
    # 5 tries are four seconds of pauses: a connection that breaks, a replica that goes. A request waits for them, so a
    # Retry-After longer than half a minute is not waited for in full.
    retries: Retries = Retries(attempts=5, first_pause=0.25, longest_retry_after=30.0)
    spent: Spent = field(default_factory=Spent, compare=False)
    rest: Rest = field(default_factory=Rest, compare=False)


def _over(what: str, most: int, key: str) -> RemoteError:
    return RemoteError(
        f"the remote classifier's budget is spent: expected at most {most} {what} in this process ({key}); a larger "
        "budget, or another start, lets it be asked again"
    )
