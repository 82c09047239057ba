"""How often, and after how many seconds, the same request is sent again: the one policy, of clients and of bundles."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("Retries", "retry_after_seconds")


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often, and after how many seconds, the same request is sent again."""

    # 12 tries are three minutes of growing pauses: a node that is replaced, or a model that loads.
    attempts: int = 12
    # 3 while nothing has ever answered: an address that is wrong is then known after a second or two.
    first_contact_attempts: int = 3
    first_pause: float = 0.5  # doubled each time
    longest_pause: float = 30.0  # three readiness probes of Kubernetes' default 10 s period
    longest_retry_after: float = (
        300.0  # the longest Retry-After that the service ever gives; a longer one is cut to this
    )

    def pause(self, attempt: int, retry_after: float | None) -> float:
        """Seconds to wait after try number `attempt`, from 1. retry_after: as the service said, in seconds."""
        if retry_after is not None:
            return min(self.longest_retry_after, retry_after)
        return min(self.longest_pause, self.first_pause * 2.0 ** (attempt - 1))


def retry_after_seconds(header: str | None) -> float | None:
    """Of a Retry-After header: whole seconds; a date (RFC 9110, 10.2.3), or none, counts as none."""
    text = header or ""
    return float(text[:10]) if text.isascii() and text.isdecimal() else None
