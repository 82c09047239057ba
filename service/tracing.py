"""Spans by OpenTelemetry, when CERTIFY_TRACING is set; otherwise nothing, at no cost.

    POST /certify      the request: its id, outcome, samples; a child of the caller's span if it sent a traceparent
      look             one look at one scale: sigma, purpose, first, count, and the votes that came back

Never an image, a tensor, a seed or a key. Where spans go is OpenTelemetry's own configuration (OTEL_EXPORTER_OTLP_...,
OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER).

A caller's traceparent goes on to the backend whether or not spans are made here, and its trace's id is in the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from .errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

__all__ = ("Attributes", "configure", "follow", "is_on", "outgoing", "shut_down", "span")

Value = str | int | float | bool | Sequence[int]


class Attributes(Protocol):
    """What may be set on a span once it is known."""

    def set_attribute(self, key: str, value: Value) -> object: ...


class _Nothing:
    def set_attribute(self, key: str, value: Value) -> None:
        """Tracing is off."""


_NO_SPAN = nullcontext(_Nothing())
_tracer: Tracer | None = None
# W3C Trace Context 2021, section 3.2; ids of zeros only are invalid.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.{0,100})?")
_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


def configure(version: str, exporter: SpanExporter | None = None) -> None:
    """Send spans to `exporter`, by default OTLP over HTTP. Raises SettingsError without OpenTelemetry."""
    global _tracer
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    except ImportError as exc:
        raise SettingsError(
            f"CERTIFY_TRACING: expected OpenTelemetry to be installed (pip install 'certify[tracing]'): {exc}"
        ) from exc
    # The environment's OTEL_SERVICE_NAME wins: Resource.create merges it over these.
    provider = TracerProvider(resource=Resource.create({"service.name": "certify", "service.version": version}))
    batched = BatchSpanProcessor(OTLPSpanExporter()) if exporter is None else SimpleSpanProcessor(exporter)
    provider.add_span_processor(batched)
    _tracer = provider.get_tracer("certify", version)
    _providers.append(provider)


_providers: list[object] = []  # to be shut down


def follow(traceparent: str) -> str | None:
    """Let what this context asks of others carry a caller's traceparent. Its trace's id, or None if it is not valid."""
    match = _TRACEPARENT.fullmatch(traceparent)
    _traceparent.set(match[0] if match else None)
    return match[1] if match else None


def outgoing() -> dict[str, str]:
    """Headers for a call to another service: the current span as traceparent, else the caller's, else none."""
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers)
        if headers:
            return headers
    caller = _traceparent.get()
    return {} if caller is None else {"traceparent": caller}


def is_on() -> bool:
    """Whether spans go anywhere: what they would say need not be put together else."""
    return _tracer is not None


def shut_down() -> None:
    """Send what is left, then trace no more."""
    global _tracer
    _tracer = None
    while _providers:
        _providers.pop().shutdown()  # type: ignore[attr-defined]  # a TracerProvider, whose type is an extra's


def span(
    name: str, attributes: Mapping[str, Value] | None = None, *, headers: Mapping[str, str] | None = None
) -> AbstractContextManager[Attributes]:
    """A span around the block, below the current one, or below the one that `headers` (W3C traceparent) name.

    An exception marks it as failed, by its type only: a message may quote what a client sent.
    """
    return _NO_SPAN if _tracer is None else _span(_tracer, name, attributes, headers)


@contextmanager
def _span(
    tracer: Tracer, name: str, attributes: Mapping[str, Value] | None, headers: Mapping[str, str] | None
) -> Iterator[Attributes]:
    from opentelemetry.trace import Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = None if headers is None else TraceContextTextMapPropagator().extract(headers)
    with tracer.start_as_current_span(
        name, context, attributes=dict(attributes or {}), record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as exc:
            current.set_status(Status(StatusCode.ERROR, type(exc).__name__))
            raise
