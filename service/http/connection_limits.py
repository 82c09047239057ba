"""How many connections there may be, and how much of each is read."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from .rests import RestLimits

__all__ = ("ACCEPTED_AT_ONCE", "ConnectionLimits", "most_connections")

# Connections that the loop takes from the kernel's queue in one round.
ACCEPTED_AT_ONCE = 16
# Descriptors that are no client's: those that listen for so many at once, and what two rounds bring before others are
# closed for it; a bundle's files, the backend's channels, the log.
_RESERVED = 64 + 3 * ACCEPTED_AT_ONCE
# Unset: eight times the places of the defaults, at some tens of KiB each.
_DEFAULT_MOST = 1024
# What is left of a request that has been answered may be as much as so many of the largest bodies: a photograph that is
# too large is told so.
_REST_BODIES = 4


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    connections: int
    head_seconds: float
    body_bytes: int  # the largest that is taken
    body_seconds: float
    root_path: str = ""  # under which the probes are, which wait for nobody

    @property
    def rest(self) -> RestLimits:
        """Of what comes after an answer; once for all connections, since they take turns."""
        return RestLimits(most_bytes=_REST_BODIES * self.body_bytes, seconds=self.body_seconds)


def most_connections(asked: int | None) -> int:
    """The setting, or its default, but never more than this process's file descriptors allow."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = asked or _DEFAULT_MOST
    return allowed if soft == resource.RLIM_INFINITY else max(1, min(allowed, soft - _RESERVED))
