"""Prometheus metrics, all of them on the registry given, prefix `certify_`, seconds and samples as units.

Every series exists before its first event, so that a rate over that event is right: a bundle's from the moment that it
is served. Labels take values only from the bundle's scales and from fixed lists: no request can add a series. The
abstention rate is

    sum(rate(certify_requests_total{outcome="abstained"}[5m])) / sum(rate(certify_requests_total[5m]))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ..answering.schemas import AbstainReason, CertifyAnswer, Outcome, Stage
from ..backends.base import BackendInfo

__all__ = ("Metrics", "sigma_label")

# Radii: from a few grey levels to beyond what 100,000 samples at sigma = 1 can certify (3.8).
_RADIUS_BUCKETS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
# Samples: up to the cap, with the paper's 10,100 to 30,300 between buckets.
_SAMPLE_BUCKETS = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000)
# Seconds: from a fast GPU's radius request to a laptop's 100,000 samples.
_SECONDS_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_STAGE_OUTCOMES = get_args(Stage.model_fields["outcome"].annotation)


def sigma_label(sigma: float) -> str:
    """A scale as a label value: 0.25 -> "0.25"."""
    return format(sigma, ".15g")


class Metrics:
    """One per process. `codes` are all error codes that a problem document can carry."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        version: str,
        codes: tuple[str, ...],
    ) -> None:
        self.registry = registry
        self._requests = Counter(
            "certify_requests",
            'Answered requests by outcome and certifying sigma ("none" when abstained).',
            ["outcome", "sigma"],
            registry=registry,
        )
        self._requests.labels("abstained", "none")
        self._abstentions = Counter(
            "certify_abstentions", "Requests that abstained, by reason.", ["reason"], registry=registry
        )
        for reason in get_args(AbstainReason):
            self._abstentions.labels(reason)
        self._abstained_stages = Counter(
            "certify_abstained_stages",
            "Visited stages of abstentions, by reason, sigma and whether one class had more than half of the votes.",
            ["reason", "sigma", "majority"],
            registry=registry,
        )
        self._by_scales = Counter(
            "certify_answers_by_scales",
            "Answers by how many sigmas the request asked for, and outcome.",
            ["scales", "outcome"],
            registry=registry,
        )
        self._radius = Histogram(
            "certify_certified_radius",
            "Certified L2 radius in units of [0, 1] pixels, by certifying sigma; abstentions are not in it.",
            ["sigma"],
            buckets=_RADIUS_BUCKETS,
            registry=registry,
        )
        self._samples = Histogram(
            "certify_samples_used",
            "Noise samples used by an answered request.",
            buckets=_SAMPLE_BUCKETS,
            registry=registry,
        )
        self._stages = Counter(
            "certify_stages", "Visited stages by sigma and outcome.", ["sigma", "outcome"], registry=registry
        )
        self._sampling_seconds = Histogram(
            "certify_sampling_seconds",
            "Time that an answered request waited for the backend's votes.",
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self._request_seconds = Histogram(
            "certify_request_seconds",
            "Time from an answered request's arrival to its answer.",
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self.queue_depth = Gauge(
            "certify_queue_depth", "Accepted requests that are not sampling yet.", registry=registry
        )
        self.in_flight = Gauge("certify_in_flight", "Requests that are sampling.", registry=registry)
        self.queue_wait_seconds = Histogram(
            "certify_queue_wait_seconds",
            "Time that a decoded request waited for its turn to sample.",
            buckets=_SECONDS_BUCKETS,
            registry=registry,
        )
        self.ready = Gauge(
            "certify_ready", "0 if the backend failed to answer when it was last asked, else 1.", registry=registry
        )
        self.disconnects = Counter(
            "certify_disconnects", "Requests whose client left before the answer.", registry=registry
        )
        self._errors = Counter("certify_errors", "Problem documents sent, by code.", ["code"], registry=registry)
        for code in codes:
            self._errors.labels(code)
        build = Gauge("certify_build_info", "Always 1.", ["version"], registry=registry)
        build.labels(version).set(1)
        self._bundle = Gauge(
            "certify_bundle_info",
            "Always 1: what is served and what runs it.",
            ["name", "digest", "kind", "generator", "device", "engine", "dtype"],
            registry=registry,
        )

    def serve(self, info: BackendInfo) -> None:
        """From now on this bundle is served: its series begin. Those of an earlier one stay, counters never fall."""
        sigmas = [sigma_label(sigma) for sigma in info.sigmas]
        for sigma in sigmas:
            self._requests.labels("certified", sigma)
            self._requests.labels("below_radius", sigma)
            self._radius.labels(sigma)
            for outcome in _STAGE_OUTCOMES:
                self._stages.labels(sigma, outcome)
            for reason in get_args(AbstainReason):
                for majority in ("yes", "no"):
                    self._abstained_stages.labels(reason, sigma, majority)
        for scales in range(1, len(sigmas) + 1):
            for outcome in get_args(Outcome):
                self._by_scales.labels(str(scales), outcome)
        runtime = info.runtime
        self._bundle.clear()
        self._bundle.labels(
            info.bundle_name,
            info.bundle_digest,
            info.kind,
            runtime.generator,
            runtime.device,
            runtime.engine,
            runtime.dtype,
        ).set(1)

    def answered(self, answer: CertifyAnswer, *, leading: Mapping[float, float | None]) -> None:
        """Count one answer. leading: each asked sigma's share of its most voted class, None where nothing was drawn."""
        sigma = "none" if answer.sigma is None else sigma_label(answer.sigma)
        self._requests.labels(answer.outcome, sigma).inc()
        self._by_scales.labels(str(len(leading)), answer.outcome).inc()
        if answer.abstain_reason is None:
            self._radius.labels(sigma).observe(answer.radius)
        else:
            self._abstentions.labels(answer.abstain_reason).inc()
            for each, share in leading.items():
                if share is not None:
                    majority = "yes" if share > 0.5 else "no"
                    self._abstained_stages.labels(answer.abstain_reason, sigma_label(each), majority).inc()
        self._samples.observe(answer.samples_used)
        for stage in answer.stages:
            self._stages.labels(sigma_label(stage.sigma), stage.outcome).inc()
        self._sampling_seconds.observe(answer.timing.sampling_seconds)
        self._request_seconds.observe(answer.timing.total_seconds)

    def failed(self, code: str) -> None:
        """Count one problem document. `code` is one of those given at the start."""
        self._errors.labels(code).inc()
