"""What the state machine proved -> the answer that a caller reads. Radii are rounded down here, and nothing else is."""

from __future__ import annotations

from typing import cast

from ...models.noises import NoiseKind
from ..backends.base import BackendInfo
from ..core import Reason, Result, StageResult
from .driver import Run
from .images import Picture
from .plans import Plan, linf_of, round_down
from .schemas import (
    AbstainReason,
    AnswerTiming,
    BundleName,
    CertifyAnswer,
    InputFacts,
    Label,
    Outcome,
    RuntimeFacts,
    Stage,
)
from .seeds import fingerprint

__all__ = ("input_facts", "label_of", "make_answer", "runtime_facts", "stages_of")


def make_answer(
    *, request_id: str, run: Run, plan: Plan, picture: Picture, info: BackendInfo, key: bytes, total_seconds: float
) -> CertifyAnswer:
    """The answer to one request. info: of the backend that ran it. key: of its seeds. total_seconds: from its arrival.

    Radii are in units of [0, 1] pixels, rounded down to six decimals. radius is in the cascade's norm. An L2 radius is
    one in L1 too, and in L-infinity when divided by sqrt(C * H * W); of one in L1 nothing is said in the others.
    """
    result, cascade = run.result, plan.cascade
    radius_linf = linf_of(result.radius, plan.dimension) if cascade.norm == "l2" else None
    return CertifyAnswer(
        id=request_id,
        outcome=_outcome(result, plan, radius_linf),
        abstain_reason=_abstain_reason(run),
        label=None if result.label is None else label_of(result.label, info),
        sigma=None if result.level is None else plan.sigmas[result.level],
        radius=result.radius,
        radius_norm=cascade.norm,
        radius_linf=radius_linf,
        radius_l1=result.radius,
        requested_radius=plan.radius,
        norm=plan.norm,
        method=plan.method,
        noise=_kinds(plan),
        uncertified_label=label_of(run.uncertified_class, info),
        alpha=plan.alpha,
        threshold=list(cascade.thresholds),
        final=cascade.final,
        samples_used=result.samples_used,
        stages=stages_of(result, plan),
        input=input_facts(picture, info),
        bundle=BundleName(name=info.bundle_name, digest=info.bundle_digest),
        runtime=runtime_facts(info),
        seed_key_fingerprint=fingerprint(key),
        timing=AnswerTiming(
            total_seconds=round(total_seconds, 6), sampling_seconds=round(run.sampling_seconds, 6), cached=False
        ),
    )


def input_facts(picture: Picture, info: BackendInfo) -> InputFacts:
    return InputFacts(
        sha256=picture.sha256.hex(),
        shape=info.input_shape,
        range=(0, 1),
        resized=picture.resized,
        turned=picture.turned,
    )


def runtime_facts(info: BackendInfo) -> RuntimeFacts:
    runtime = info.runtime
    return RuntimeFacts(
        generator=runtime.generator,
        device=runtime.device,
        engine=runtime.engine,
        dtype=runtime.dtype,
        micro_batch=info.grain,
    )


def stages_of(result: Result, plan: Plan) -> list[Stage]:
    """Coarsest first; scales that were never sampled are left out."""
    kinds = _kinds(plan)
    return [_stage(stage, kinds) for stage in reversed(result.stages) if stage.samples or stage.pilot_samples]


def _kinds(plan: Plan) -> list[NoiseKind]:
    return [kind for kind, _ in plan.cascade.noises]


def label_of(index: int, info: BackendInfo) -> Label:
    return Label(index=index, name=info.class_names[index])


def _outcome(result: Result, plan: Plan, radius_linf: float | None) -> Outcome:
    if result.label is None:
        return "abstained"
    # Printed radii are compared, not the state machine's: a caller must be able to check this from the answer alone.
    # plan.target was rounded up so that a request that the state machine takes for met is met in print too.
    proved = radius_linf if plan.norm == "linf" else result.radius
    assert proved is not None  # a plan asks for linf of L2 certificates alone
    return "certified" if plan.radius is None or proved >= plan.radius else "below_radius"


def _abstain_reason(run: Run) -> AbstainReason | None:
    if run.result.label is not None:
        return None
    # Of the enum's others none is an abstention's that has data; the schema checks it.
    return cast(AbstainReason, Reason.DEADLINE if run.timed_out else run.result.reason)


def _stage(stage: StageResult, kinds: list[NoiseKind]) -> Stage:
    return Stage(
        sigma=stage.sigma,
        outcome=stage.outcome.value,
        samples=stage.samples,
        pilot_samples=stage.pilot_samples,
        count=stage.count,
        rival_count=stage.rival_count,
        p_lower=stage.p_lower,
        p_rival_upper=stage.p_rival_upper,
        # Rounding down keeps order: radius, which lies on the same grid, stays at most this.
        radius_bound=None if stage.radius_bound is None else round_down(stage.radius_bound),
        noise=kinds[stage.level],
    )
