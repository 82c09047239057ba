"""What one serving process holds, in one place: made by the app's lifespan, read by the routes."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from starlette.requests import Request

from ..answering.kept import KeptAnswers
from ..answering.signing import Signer
from ..backends.base import Backend, BackendInfo
from ..settings import Settings
from .admission import Admission
from .arrivals import Arrivals
from .budgets import Budgets
from .decoding import Decoders
from .keys import ApiKeys
from .metrics import Metrics
from .readiness import Readiness
from .serving import Serving

__all__ = ("Gateway", "gateway_of")


@dataclass(frozen=True, kw_only=True)
class Gateway:
    settings: Settings
    backend: Backend
    serving: Serving
    metrics: Metrics
    arrivals: Arrivals
    admission: Admission
    readiness: Readiness
    keys: ApiKeys
    budgets: Budgets
    answers: KeptAnswers
    seed_key: bytes
    signer: Signer | None
    parsers: Executor  # bounded: bodies are parsed here, off the event loop
    decoders: Decoders  # images, in processes

    @property
    def info(self) -> BackendInfo:
        """What is served now. One answer uses one of them throughout. Raises BackendUnavailable when nothing is."""
        return self.serving.info

    def abort(self) -> None:
        """Grace is over: whatever is still under way ends with Draining."""
        self.admission.abort()
        self.arrivals.stop()


def gateway_of(request: Request) -> Gateway:
    gateway = request.app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway
