"""GET /info: what is certified against, with which defaults and limits."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request

from ... import __version__
from ...answering.answers import runtime_facts
from ...answering.plans import default_method, largest_radius, least_samples, make_plan, norms_of
from ...answering.schemas import BackendFacts, BundleFacts, CertifyFields, Defaults, Info, Limits
from ...answering.seeds import fingerprint
from ..context import gateway_of
from ..openapi import INFO_ANSWERS

__all__ = ("router",)

router = APIRouter()


@router.get(
    "/info", operation_id="info", summary="The bundle, the backend, defaults and limits", responses=INFO_ANSWERS
)
async def info(request: Request) -> Info:
    """Everything that a client needs to know before it asks, and to check an answer afterwards.

    Nearly all of it is the bundle's, so there is none of it before the backend has first answered.
    """
    gateway = gateway_of(request)
    bundle, settings, fields = gateway.info, gateway.settings, CertifyFields()
    return Info(
        version=__version__,
        bundle=BundleFacts(
            name=bundle.bundle_name,
            digest=bundle.bundle_digest,
            version=bundle.bundle_version,
            classes=list(bundle.class_names),
            input_shape=bundle.input_shape,
            sigmas=list(bundle.sigmas),
            thresholds=list(bundle.thresholds),
            noise=list(bundle.noises),
            norms=norms_of(bundle.cascade),
            final=bundle.final,
            chunk=bundle.chunk,
        ),
        backend=BackendFacts(
            kind=bundle.kind,
            libraries=dict(bundle.libraries),
            **runtime_facts(bundle).model_dump(),
        ),
        defaults=Defaults(
            samples=fields.samples,
            alpha=fields.alpha,
            norm=bundle.norm,
            method=default_method(bundle.cascade),
            threshold=list(bundle.thresholds),
            final=bundle.final,
            sigmas=list(bundle.sigmas),
            resize=fields.resize,
        ),
        limits=Limits(
            max_samples=settings.max_samples,
            min_samples=least_samples(bundle.cascade, alpha=fields.alpha, info=bundle),
            max_radius=largest_radius(make_plan(fields, bundle, max_samples_allowed=fields.samples)),
            max_body_bytes=settings.max_body_bytes,
            max_pixels=settings.max_pixels,
            max_batch=settings.max_batch,
            max_running=settings.running,
            max_queued=settings.max_queued,
        ),
        seed_key="random" if settings.seed_key is None else "configured",
        seed_key_fingerprint=fingerprint(gateway.seed_key),
    )
