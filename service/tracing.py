"""Spans by OpenTelemetry, when CERTIFY_TRACING is set; otherwise nothing, at no cost.

    POST /v1/certify     the request (SERVER); a child of the caller's span if it sent a traceparent
      image              one image of a batch, around its looks
      look               one look at one scale: sigma, purpose, first, count, and the votes that came back
        inference.GRPCInferenceService/ModelInfer     one call to a Triton server (CLIENT)

Names and attributes are OpenTelemetry's conventions (https://opentelemetry.io/docs/specs/semconv/), our own attributes
begin with `certify.`. Never an image, a tensor, a seed or a key. Where spans go, and by which protocol, is
OpenTelemetry's own configuration (OTEL_EXPORTER_OTLP_ENDPOINT and _PROTOCOL, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER).

A caller's traceparent goes on to the backend whether or not spans are made here. The trace's id is in the log, and in
the metrics' exemplars.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from .errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

__all__ = (
    "Kind",
    "Span",
    "Trace",
    "Value",
    "annotate",
    "configure",
    "current",
    "follow",
    "is_on",
    "outgoing",
    "shut_down",
    "span",
)

logger = logging.getLogger(__name__)

Value = str | int | float | bool | Sequence[int]
Kind = Literal["server", "client", "internal"]
# The first that is set; the second is of all signals.
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
# W3C Trace Context 2021, sections 3.2 and 3.3. Ids of zeros only are invalid, and in version 00 nothing is after the
# flags. What is handed on becomes gRPC's metadata, so it is printable ASCII.
_TRACEPARENT = re.compile(
    r"(?!ff)(?!00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-[!-~]{0,100})?"
)
_TRACESTATE = re.compile(r"[ -~]{1,512}")
_SAMPLED = 1  # the flag's bit
# A collector that is there answers in milliseconds; for one that is away, OpenTelemetry would hold the end for 12 s.
_LAST_SECONDS = 2.0

_tracer: Tracer | None = None
_providers: list[object] = []  # to be shut down
_caller: ContextVar[Mapping[str, str]] = ContextVar("caller", default=MappingProxyType({}))


@dataclass(frozen=True)
class Trace:
    """Where the current work belongs. Ids are in hexadecimal, as W3C writes them."""

    trace_id: str
    span_id: str | None  # of a span of ours; None where only the caller traces
    sampled: bool  # whether somebody keeps its spans


class Span:
    """What may still be said of a span while it lasts."""

    def __init__(self, span: OtelSpan | None) -> None:
        """None: tracing is off."""
        self._span = span
        self._failed = False

    def rename(self, name: str) -> None:
        if self._span is not None:
            self._span.update_name(name)

    def set(self, attributes: Mapping[str, Value]) -> None:
        if self._span is not None:
            self._span.set_attributes(attributes)

    def fail(self, error_type: str) -> None:
        """It has failed, of one of a few known reasons; the first stands."""
        if self._span is None or self._failed:
            return
        from opentelemetry.trace import Status, StatusCode

        self._failed = True
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR))


_NO_SPAN = nullcontext(Span(None))


def configure(version: str, exporter: SpanExporter | None = None) -> None:
    """Send spans to `exporter`, by default OTLP. Raises SettingsError without OpenTelemetry, or of another protocol."""
    global _tracer
    try:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        processor = BatchSpanProcessor(_otlp()) if exporter is None else SimpleSpanProcessor(exporter)
    except ImportError as exc:
        raise SettingsError(
            f"CERTIFY_TRACING: expected OpenTelemetry to be installed (pip install 'certify[tracing]'): {exc}"
        ) from exc
    # The environment's OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win; Resource.create alone would let ours.
    about = {"service.name": "certify", "service.version": version, **OTELResourceDetector().detect().attributes}
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)  # see shut_down()
    provider.add_span_processor(processor)
    _tracer = provider.get_tracer("certify", version)
    _providers.append(provider)


def _otlp() -> SpanExporter:
    # http/protobuf: the specification's default.
    given = [(name, value) for name in _PROTOCOLS if (value := os.environ.get(name, "").strip())]
    name, protocol = given[0] if given else (_PROTOCOLS[-1], "http/protobuf")
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter()
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        return HttpExporter()
    raise SettingsError(f"{name}: expected grpc or http/protobuf, got {protocol[:50]!r}")


def shut_down() -> None:
    """Send what is left, as far as somebody takes it soon; then trace no more."""
    global _tracer
    _tracer = None
    while _providers:
        provider = _providers.pop()
        ending = threading.Thread(target=provider.shutdown, daemon=True)  # type: ignore[attr-defined]  # an extra's type
        ending.start()
        ending.join(_LAST_SECONDS)
        if ending.is_alive():
            logger.warning("the last spans are lost: no collector took them within %g seconds", _LAST_SECONDS)


def is_on() -> bool:
    """Whether spans go anywhere: what they would say need not be put together else."""
    return _tracer is not None


def follow(headers: Mapping[str, str]) -> None:
    """From here on this context is part of the caller's trace, if a valid traceparent names one."""
    caller = {}
    if _TRACEPARENT.fullmatch(parent := headers.get("traceparent", "")):
        caller["traceparent"] = parent
        if _TRACESTATE.fullmatch(state := headers.get("tracestate", "")):
            caller["tracestate"] = state
    _caller.set(caller)


def current() -> Trace | None:
    """The trace of the current span, else the caller's, else None."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        ours = get_current_span().get_span_context()
        if ours.is_valid:
            return Trace(f"{ours.trace_id:032x}", f"{ours.span_id:016x}", ours.trace_flags.sampled)
    match = _TRACEPARENT.fullmatch(_caller.get().get("traceparent", ""))
    return Trace(match[1], None, bool(int(match[2], 16) & _SAMPLED)) if match else None


def outgoing() -> dict[str, str]:
    """Headers for a call to another service: the current span's traceparent, else the caller's, else none."""
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers)
        if headers:
            return headers
    return dict(_caller.get())


def annotate(**facts: Value) -> None:
    """Say of the current span what is known now, as `certify.NAME`."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes({f"certify.{name}": value for name, value in facts.items()})


def span(
    name: str, attributes: Mapping[str, Value] | None = None, *, kind: Kind = "internal"
) -> AbstractContextManager[Span]:
    """A span around the block: a server's below the caller's that follow() was told of, others below the current one.

    It has failed if fail() is called, or if an exception ends it, of which it says the type only: a message may quote
    what a client sent. What is cancelled has not failed.
    """
    return _NO_SPAN if _tracer is None else _span(_tracer, name, attributes, kind)


@contextmanager
def _span(tracer: Tracer, name: str, attributes: Mapping[str, Value] | None, kind: Kind) -> Iterator[Span]:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    with tracer.start_as_current_span(
        name,
        TraceContextTextMapPropagator().extract(_caller.get()) if kind == "server" else None,
        SpanKind[kind.upper()],
        dict(attributes or {}),
        record_exception=False,
        set_status_on_exception=False,
    ) as ours:
        made = Span(ours)
        try:
            yield made
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            made.fail(type(exc).__name__)
            raise
