"""What can go wrong, as exceptions. No web imports here: `service.http.problems` alone knows status numbers.

CertifyError
|-- RequestError            the caller's fault; `code` is stable (GET /docs lists them), the message says what was
|                           expected, what came and where; `extra` carries machine-readable hints
|-- Unauthorized            the service has a file of API keys, and the request carries none of them
|-- OverloadError
|   |-- QueueFull           more requests wait than the queue holds; `retry_after_seconds` is a hint
|   |-- BudgetSpent         the client has no samples left in this minute; `retry_after_seconds` is when it has
|   `-- Draining            the process is shutting down and takes nothing new
|-- DeadlineExceeded        the deadline came before any look was complete, or a client's timeout before an answer
|-- BackendUnavailable      the backend died, stalled or cannot be reached; the request may be sent again
|-- DataError               a data set is missing or not of its form; names the file and the field
|-- RemoteError             a bundle's classifier over the network fails while it is packed; a backend makes a
|                           BackendUnavailable of it
|-- BundleError             a bundle is incomplete, altered or not of this format
`-- SettingsError           a setting has a value that the service cannot start with; names the key
"""

from __future__ import annotations

from ..models.errors import BundleError, CertifyError, DataError, RemoteError

__all__ = (
    "BackendUnavailable",
    "BudgetSpent",
    "BundleError",
    "CertifyError",
    "DataError",
    "DeadlineExceeded",
    "Draining",
    "OverloadError",
    "QueueFull",
    "RemoteError",
    "RequestError",
    "SettingsError",
    "Unauthorized",
)


class RequestError(CertifyError):
    """The caller's fault. `code` is one of the codes in GET /docs; `extra` goes into the problem document."""

    def __init__(self, code: str, detail: str, **extra: object) -> None:
        super().__init__(detail)
        self.code: str = code
        self.detail = detail
        self.extra = extra
        self.field = None if extra.get("field") is None else str(extra["field"])
        self.hints = {name: hint for name, hint in extra.items() if name not in ("field", "instance")}


class Unauthorized(CertifyError):
    """The request carries no API key of this service; the message never quotes what it carries."""


class OverloadError(CertifyError):
    """Nothing is wrong with the request, but it cannot be taken now."""


class QueueFull(OverloadError):
    """The bounded queue is full. `retry_after_seconds` is when a place is likely to be free."""

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class BudgetSpent(OverloadError):
    """The client's budget of samples is spent. `retry_after_seconds` is when it is full again."""

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Draining(OverloadError):
    """The process is shutting down: what was accepted is finished, nothing new is taken."""


class DeadlineExceeded(CertifyError):
    """The deadline came before any look was complete, or a client's timeout before an answer: nothing can be said."""


class BackendUnavailable(CertifyError):
    """The backend died, stalled or cannot be reached."""


class SettingsError(CertifyError):
    """A setting has a value that the service cannot start with; the message names the key."""
