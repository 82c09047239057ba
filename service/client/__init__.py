"""A running service, asked over HTTP: Client waits, AsyncClient awaits; docs/client.md is their page.

    with Client("http://127.0.0.1:8000") as client:
        answer = client.certify("digit.png", radius=0.3, sigmas=[0.25, 0.5])
        print(answer.outcome, answer.radius)

Whatever fails in passing is sent again, because that is safe: to certify changes nothing, and the same question has the
same answer. What comes back is an answer of its type, or a CertifyError:

    RequestError          the service refuses these fields or this image; `code`, `field` and `hints` say what is wrong
    Unauthorized          it wants another key
    QueueFull, BudgetSpent, Draining   still so after the last try; `retry_after_seconds` says when to ask again
    DeadlineExceeded      `deadline_ms` came before any look was complete, or `timeout` before an answer
    BackendUnavailable    it cannot be reached, has a fault or no memory, or something else answers there

An error that the service told has its `status`, `code` and `request_id` too.
"""

from __future__ import annotations

from ...models.retries import Retries
from .batches import Reply
from .clients import AsyncClient, Client
from .pictures import Image, read_image
from .questions import Fields, SignedCertificate

__all__ = ("AsyncClient", "Client", "Fields", "Image", "Reply", "Retries", "SignedCertificate", "read_image")
