"""What runs the network. `base` is the contract; one file per backend; open_backend() chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Backend

if TYPE_CHECKING:
    from ..settings import Settings

__all__ = ("open_backend",)


def open_backend(settings: Settings, *, patient: bool = True) -> Backend:
    """The backend that `settings` name, not yet opened. Heavy libraries are imported only by what needs them.

    patient: its open() waits a while for servers that are not there yet, rather than try once.
    """
    match settings.backend:
        case "fake":
            from .fake import FakeBackend

            return FakeBackend(delay_seconds=settings.fake_delay_seconds)
        case "embedded":
            from .embedded import EmbeddedBackend

            return EmbeddedBackend(
                settings.bundle,
                workers=settings.workers,
                device=settings.device,
                engine=settings.engine,
                micro_batch=settings.micro_batch,
                remote=settings.remote,
            )
        case "triton":
            from .triton import START_SECONDS, TritonBackend

            urls = [url.strip() for url in settings.triton_url.split(",")]
            return TritonBackend(
                urls, call_seconds=settings.call_seconds, start_seconds=START_SECONDS if patient else 0.0
            )
