"""GET /livez and /readyz for whoever runs the process, GET /metrics for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ...answering.schemas import Probe
from ...errors import Draining
from ..context import gateway_of
from ..exposition import expose
from ..openapi import LIVE_ANSWERS, METRICS_ANSWER, READY_ANSWERS

__all__ = ("router",)

router = APIRouter()


@router.get("/livez", operation_id="live", summary="The process is up", responses=LIVE_ANSWERS)
async def livez() -> Probe:
    """Answers as long as the event loop turns. A dead backend is no reason to restart the gateway: see /readyz."""
    return Probe()


@router.get("/readyz", operation_id="ready", summary="The backend answers", responses=READY_ANSWERS)
async def readyz(request: Request) -> Probe:
    """The backend has answered a real sample within the last CERTIFY_READY_SECONDS, and the service takes requests."""
    gateway = gateway_of(request)
    if gateway.admission.draining:
        raise Draining("the service is shutting down")
    await gateway.readiness.check()
    return Probe()


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses=METRICS_ANSWER,
)
async def metrics(request: Request) -> Response:
    """In the text format, or as OpenMetrics with exemplars (Accept: application/openmetrics-text); gzip where accepted.

    The abstention rate is the ratio of two counters; see certify_requests_total's outcomes.
    """
    gateway = gateway_of(request)
    gateway.metrics.know(gateway.keys.names)  # the file of keys may have others by now
    accept, accept_encoding = (request.headers.get(name, "") for name in ("accept", "accept-encoding"))
    made = expose(gateway.metrics.registry, accept=accept, accept_encoding=accept_encoding)
    return Response(made.body, headers=made.headers)
