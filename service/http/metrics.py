"""Prometheus metrics, all of them on the registry given, prefix `certify_` (`process_` for the process's own, as all
clients of Prometheus have it), seconds and samples as units. What is counted in a sampled trace has its id as exemplar.

Every series exists before its first event, so that a rate over that event is right: a bundle's from the moment that it
is served. Labels take values only from the bundle's scales and from fixed lists: no request can add a series. The
abstention rate is

    sum(rate(certify_requests_total{outcome="abstained"}[5m])) / sum(rate(certify_requests_total[5m]))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from .. import tracing
from ..answering.ahead import Drawn
from ..answering.schemas import AbstainReason, CertifyAnswer, Outcome, Stage
from ..backends.base import BackendInfo

__all__ = ("Metrics", "sigma_label")

# Radii: from a few grey levels to beyond what 100,000 samples at sigma = 1 can certify (3.8).
_RADIUS_BUCKETS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
# Samples: up to the cap, with the paper's 10,100 to 30,300 between buckets.
_SAMPLE_BUCKETS = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000)
# Seconds: from a fast GPU's radius request to 100,000 samples of a large network on a CPU. A quantile cannot exceed the
# last bound, so it must lie beyond any threshold of an alert.
_SECONDS_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# What the service failed to answer. Not what clients got wrong (4xx) or chose (deadline_exceeded, budget_spent), nor
# what found no room (queue_full), which has a count of its own.
_FAILURES = frozenset({"backend_unavailable", "internal_error", "out_of_memory", "draining"})
_STAGE_OUTCOMES = get_args(Stage.model_fields["outcome"].annotation)


def sigma_label(sigma: float) -> str:
    """A scale as a label value: 0.25 -> "0.25"."""
    return format(sigma, ".15g")


def _exemplar() -> dict[str, str] | None:
    trace = tracing.current()
    return {"trace_id": trace.trace_id} if trace is not None and trace.sampled else None


_Kind = TypeVar("_Kind", Counter, Gauge, Histogram)


@dataclass(frozen=True)
class _Row:
    """One metric. values: for a metric with labels, every combination of their values, in the labels' order."""

    key: str
    kind: type[Counter] | type[Gauge] | type[Histogram]
    help: str
    labels: tuple[str, ...] = ()
    values: Iterable[tuple[str, ...]] = ()
    buckets: tuple[float, ...] = ()

    def register(self, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
        name = f"certify_{self.key}"
        metric = (
            Histogram(name, self.help, self.labels, registry=registry, buckets=self.buckets)
            if self.kind is Histogram
            else self.kind(name, self.help, self.labels, registry=registry)
        )
        for value in self.values:
            metric.labels(*value)
        return metric


def _answer_rows(sigmas: Sequence[str]) -> tuple[_Row, ...]:
    """What an answer counts. Without sigmas, what there is before a bundle is served."""
    reasons, outcomes = get_args(AbstainReason), get_args(Outcome)
    scales = [str(number + 1) for number in range(len(sigmas))]
    return (
        _Row(
            "requests",
            Counter,
            'Answered requests by outcome and certifying sigma ("none" when abstained).',
            ("outcome", "sigma"),
            [*product(("certified", "below_radius"), sigmas), ("abstained", "none")],
        ),
        _Row("abstentions", Counter, "Requests that abstained, by reason.", ("reason",), product(reasons)),
        _Row(
            "abstained_stages",
            Counter,
            "Visited stages of abstentions, by reason, sigma and whether one class had more than half of the votes.",
            ("reason", "sigma", "majority"),
            product(reasons, sigmas, ("yes", "no")),
        ),
        _Row(
            "answers_by_scales",
            Counter,
            "Answers by how many sigmas the request asked for, and outcome.",
            ("scales", "outcome"),
            product(scales, outcomes),
        ),
        _Row(
            "certified_radius",
            Histogram,
            "Certified radius (radius_norm) in units of [0, 1] pixels, by certifying sigma; abstentions are not in it.",
            ("sigma",),
            product(sigmas),
            _RADIUS_BUCKETS,
        ),
        _Row(
            "ahead_samples",
            Counter,
            "Noise samples drawn ahead for idle hands, by what became of them: used, or dropped unasked-for.",
            ("fate",),
            [("used",), ("dropped",)],
        ),
        _Row("samples_used", Histogram, "Noise samples used by an answered request.", buckets=_SAMPLE_BUCKETS),
        _Row(
            "stages",
            Counter,
            "Visited stages by sigma and outcome.",
            ("sigma", "outcome"),
            product(sigmas, _STAGE_OUTCOMES),
        ),
    )


def _process_rows(codes: tuple[str, ...]) -> tuple[_Row, ...]:
    return (
        _Row(
            "sampling_seconds",
            Histogram,
            "Time that an answered request waited for the backend's votes.",
            buckets=_SECONDS_BUCKETS,
        ),
        _Row(
            "request_seconds",
            Histogram,
            "Time from a request's arrival to its answer, or to its failure where the service is to blame.",
            ("result",),
            [("answered",), ("failed",)],
            _SECONDS_BUCKETS,
        ),
        _Row("arriving", Gauge, "Requests whose body has not all come."),
        _Row("queue_depth", Gauge, "Accepted requests that have no call under way."),
        _Row("in_flight", Gauge, "Calls of the backend under way."),
        _Row(
            "queue_wait_seconds",
            Histogram,
            "Time that a decoded request waited for its first turn.",
            buckets=_SECONDS_BUCKETS,
        ),
        _Row("ready", Gauge, "0 if the backend failed to answer when it was last asked, else 1."),
        _Row("client_samples", Counter, "Noise samples used by answered requests, by client.", ("client",)),
        _Row("cached_answers", Counter, "Answers given again from memory; they are among the requests."),
        _Row("disconnects", Counter, "Requests whose client left before the answer."),
        _Row("errors", Counter, "Problem documents sent, by code.", ("code",), product(codes)),
        _Row("no_http", Counter, "Connections closed because what came was no HTTP."),
    )


def _info_rows(version: str) -> tuple[_Row, ...]:
    labels = ("name", "digest", "kind", "generator", "device", "engine", "dtype", "micro_batch", "seed_key")
    return (
        _Row("build_info", Gauge, "Always 1.", ("version",), [(version,)]),
        _Row("bundle_info", Gauge, "Always 1: what is served and what runs it.", labels),
    )


class Metrics:
    """One per process. `codes` are all error codes that a problem document can carry."""

    def __init__(self, registry: CollectorRegistry, *, version: str, codes: tuple[str, ...]) -> None:
        self.registry = registry
        ProcessCollector(registry=registry)
        rows = (*_answer_rows(()), *_process_rows(codes), *_info_rows(version))
        self._metrics = {row.key: row.register(registry) for row in rows}
        self._series: dict[tuple[str, ...], Counter | Gauge | Histogram] = {}  # found before
        self._of(Gauge, "build_info", version).set(1)
        self.arriving = self._of(Gauge, "arriving")
        self.queue_depth = self._of(Gauge, "queue_depth")
        self.in_flight = self._of(Gauge, "in_flight")
        self.queue_wait_seconds = self._of(Histogram, "queue_wait_seconds")
        self.ready = self._of(Gauge, "ready")
        self.disconnects = self._of(Counter, "disconnects")
        self.no_http = self._of(Counter, "no_http")

    def serve(self, info: BackendInfo, *, seed_key: str) -> None:
        """From now on this bundle is served: its series begin. Those of an earlier one stay, counters never fall.

        seed_key: the key's fingerprint.
        """
        for row in _answer_rows([sigma_label(sigma) for sigma in info.sigmas]):
            for values in row.values:
                self._metrics[row.key].labels(*values)
        runtime = info.runtime
        bundle_info = self._metrics["bundle_info"]
        bundle_info.clear()
        assert isinstance(bundle_info, Gauge)
        bundle_info.labels(
            info.bundle_name, info.bundle_digest, info.kind,
            runtime.generator, runtime.device, runtime.engine, runtime.dtype, str(info.grain), seed_key,
        ).set(1)  # fmt: skip

    def answered(self, answer: CertifyAnswer, *, leading: Mapping[float, float | None], client: str) -> None:
        """Count one answer.

        leading: each asked sigma's share of its most voted class, None where nothing was drawn. client: the name of
        one that the file of keys names, or that of everybody.
        """
        exemplar = _exemplar()
        self._of(Counter, "client_samples", client).inc(answer.samples_used)
        self._outcome(answer)
        if answer.abstain_reason is not None:
            self._abstained(answer.abstain_reason, leading)
        self._of(Histogram, "samples_used").observe(answer.samples_used, exemplar)
        for stage in answer.stages:
            self._of(Counter, "stages", sigma_label(stage.sigma), stage.outcome).inc()
        self._of(Histogram, "sampling_seconds").observe(answer.timing.sampling_seconds, exemplar)

    def repeated(self, answer: CertifyAnswer) -> None:
        """Count an answer that was kept: nothing was drawn for it."""
        self._of(Counter, "cached_answers").inc()
        self._outcome(answer)

    def _outcome(self, answer: CertifyAnswer) -> None:
        exemplar = _exemplar()
        sigma = "none" if answer.sigma is None else sigma_label(answer.sigma)
        self._of(Counter, "requests", answer.outcome, sigma).inc()
        self._of(Counter, "answers_by_scales", str(len(answer.noise)), answer.outcome).inc()
        if answer.abstain_reason is None:
            self._of(Histogram, "certified_radius", sigma).observe(answer.radius, exemplar)
        else:
            self._of(Counter, "abstentions", answer.abstain_reason).inc(exemplar=exemplar)
        self._of(Histogram, "request_seconds", "answered").observe(answer.timing.total_seconds, exemplar)

    def drew_ahead(self, drawn: Drawn) -> None:
        """Count what one answered request had drawn ahead."""
        if drawn.used or drawn.dropped:
            self._of(Counter, "ahead_samples", "used").inc(drawn.used)
            self._of(Counter, "ahead_samples", "dropped").inc(drawn.dropped)

    def know(self, clients: Iterable[str]) -> None:
        """Clients that may ask: their series begin."""
        for client in clients:
            self._of(Counter, "client_samples", client)

    def failed(self, code: str, seconds: float | None = None) -> None:
        """Count one problem document. `code` is one of those given at the start.

        seconds: from the arrival of the request to certify that it answers; None for a probe or another path, whose
        refusals are nobody's failed requests.
        """
        exemplar = _exemplar()
        self._of(Counter, "errors", code).inc(exemplar=exemplar)
        if seconds is not None and code in _FAILURES:
            self._of(Histogram, "request_seconds", "failed").observe(seconds, exemplar)

    def _abstained(self, reason: str, leading: Mapping[float, float | None]) -> None:
        for sigma, share in leading.items():
            if share is not None:
                majority = "yes" if share > 0.5 else "no"
                self._of(Counter, "abstained_stages", reason, sigma_label(sigma), majority).inc()

    def _of(self, kind: type[_Kind], key: str, *values: str) -> _Kind:
        """The metric of this key, or its series with these labels' values."""
        series = (key, *values)
        if (metric := self._series.get(series)) is None:
            metric = self._series[series] = self._metrics[key].labels(*values) if values else self._metrics[key]
        assert isinstance(metric, kind)
        return metric
