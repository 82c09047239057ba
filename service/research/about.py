"""What certified a table's rows, and what it was asked: kept beside the table, for whoever reports on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ...models.bundle import Final
from ...models.noises import NoiseKind
from .. import __version__
from ..answering.answers import runtime_facts
from ..answering.digits import UNREAD_THRESHOLD
from ..answering.fields import parse_texts
from ..answering.plans import Plan
from ..answering.schemas import CertifyFields, Info, Method, RuntimeFacts
from ..answering.seeds import fingerprint
from ..backends.base import BackendInfo
from ..errors import DataError

__all__ = ("About", "about_backend", "about_service")


class About(BaseModel):
    """Every default filled in. sigmas ascend; thresholds and noises go with them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    certify: str = Field(description="version of what answered")
    bundle: str
    bundle_digest: str
    classes: list[str]
    input_shape: tuple[int, int, int] = Field(description="(C, H, W)")
    runtime: RuntimeFacts = Field(description="what computed the votes")
    sigmas: list[float] = Field(description="in units of [0, 1] pixels")
    thresholds: list[float]
    noise: list[NoiseKind]
    final: Final
    norm: Literal["l2", "l1"] = Field(description="of radii")
    method: Method
    alpha: float = Field(description="probability that a certificate is wrong; 0 if deterministic")
    samples: int = Field(description="most samples for an image, as asked; if deterministic, all are counted")
    seed_key_fingerprint: str


def about_backend(info: BackendInfo, plan: Plan, fields: CertifyFields, key: bytes) -> About:
    """Of rows certified in this process."""
    return About(
        certify=__version__,
        bundle=info.bundle_name,
        bundle_digest=info.bundle_digest,
        classes=list(info.class_names),
        input_shape=info.input_shape,
        runtime=runtime_facts(info),
        sigmas=list(plan.sigmas),
        thresholds=list(plan.cascade.thresholds),
        noise=[info.noises[info.sigmas.index(sigma)] for sigma in plan.sigmas],
        final=plan.cascade.final,
        norm=plan.cascade.norm,
        method=plan.method,
        alpha=plan.alpha,
        samples=fields.samples,
        seed_key_fingerprint=fingerprint(key),
    )


def about_service(info: Info, texts: Mapping[str, str]) -> About:
    """Of rows that a service answers, which is asked `texts` and says `info`. Raises DataError for what it refuses."""
    fields = parse_texts({name: [text] for name, text in texts.items()})
    bundle, defaults = info.bundle, info.defaults
    named = fields.sigmas or bundle.sigmas
    if not set(named) <= set(bundle.sigmas):
        raise DataError(f"sigmas: expected some of the bundle's {bundle.sigmas}, got {named}")
    if fields.threshold is not None and len(fields.threshold) not in (1, len(named)):
        raise DataError(f"threshold: expected one value or {len(named)}, got {fields.threshold}")
    given = fields.threshold or [bundle.thresholds[bundle.sigmas.index(sigma)] for sigma in named]
    thresholds = dict(zip(named, given * len(named) if len(given) == 1 else given, strict=True))
    sigmas, final = sorted(thresholds), fields.final or defaults.final
    if final == "plurality":
        thresholds[sigmas[0]] = UNREAD_THRESHOLD
    noise = [bundle.noise[bundle.sigmas.index(sigma)] for sigma in sigmas]
    method = fields.method or defaults.method
    sampled = fields.alpha if "alpha" in texts else defaults.alpha
    return About(
        certify=info.version,
        bundle=bundle.name,
        bundle_digest=bundle.digest,
        classes=bundle.classes,
        input_shape=bundle.input_shape,
        runtime=RuntimeFacts.model_validate(info.backend.model_dump(exclude={"kind"})),
        sigmas=sigmas,
        thresholds=[thresholds[sigma] for sigma in sigmas],
        noise=noise,
        final=final,
        norm="l2" if set(noise) == {"gaussian"} else "l1",
        method=method,
        alpha=sampled if method == "sampled" else 0.0,
        samples=fields.samples if "samples" in texts else defaults.samples,
        seed_key_fingerprint=info.seed_key_fingerprint,
    )
