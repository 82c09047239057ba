"""A request held against a bundle: which scales, thresholds, budget and radius the state machine gets, or why none.

All arithmetic on radii is exact (decimal): a requested radius is only ever rounded up, a certified one down.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from ..backends.base import BackendInfo, cascade_of
from ..core import Cascade, Certifier, Counter, counted_limit, max_radius, min_samples, reachable, whole_counts
from ..errors import RequestError
from .digits import UNREAD_THRESHOLD, check_alpha, check_thresholds
from .schemas import CertifyFields, Method, Norm
from .seeds import SeedScope

__all__ = (
    "Plan",
    "chosen_sigmas",
    "default_method",
    "largest_radius",
    "least_samples",
    "linf_of",
    "make_plan",
    "norms_of",
    "plan_made",
    "round_down",
    "target_of",
)

# Radii are given to six decimals, as the state machine rounds them (docs/protocol.md, 7).
_GRID = Decimal("0.000001")
# 50 digits: the error of a square root (which decimal rounds half-even, whatever the context) is far below the grid.
_DOWN = Context(prec=50, rounding=ROUND_FLOOR)
_UP = Context(prec=50, rounding=ROUND_CEILING)
# Plans kept, a few KiB each: requests come with few different parameters, and what can be met takes a while to find.
_KEPT = 512
_MADE: dict[Hashable, Plan] = {}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One request, every default filled in. sigmas ascend; thresholds and noises go with them.

    samples is a multiple of chunk; of a deterministic request it is all that there are, and alpha is 0.
    """

    cascade: Cascade
    method: Method
    alpha: float
    samples: int
    chunk: int
    grain: int  # looks end at multiples of it
    classes: int
    dimension: int  # C * H * W
    norm: Norm  # of the request
    radius: float | None  # as requested, in the units of norm
    target: float | None  # the radius in the cascade's norm, on the grid, whose certificate meets the request

    @property
    def sigmas(self) -> tuple[float, ...]:
        return self.cascade.sigmas

    def certifier(self) -> Certifier | Counter:
        """A new state machine for this request, with nothing observed yet.

        Its samples are the budget in whole chunks, its radius the target in units of [0, 1] pixels, or None (max
        mode). Raises ValueError as Certifier does; a plan that make_plan made has been checked.
        """
        if self.method == "deterministic":
            return Counter(self.cascade, self.classes)
        return Certifier(
            self.cascade,
            self.classes,
            alpha=self.alpha,
            samples=self.samples,
            radius=self.target,
            chunk=self.chunk,
            grain=self.grain,
        )

    def seed_scope(self, tensor_sha256: bytes, info: BackendInfo) -> SeedScope:
        """What names this request's noise. tensor_sha256: 32 bytes, as Picture has it. info: make_plan's.

        All that is in it is canonical: requests that mean the same have one.
        """
        runtime = info.runtime
        return SeedScope(
            tensor_sha256=tensor_sha256,
            bundle_digest=info.bundle_digest,
            sigmas=self.cascade.sigmas,
            alpha=self.alpha,
            thresholds=self.cascade.thresholds,
            final=self.cascade.final,
            chunks=self.samples // self.chunk,
            target=self.target,
            generator=runtime.generator,
            device=runtime.device,
            engine=runtime.engine,
            dtype=runtime.dtype,
            micro_batch=self.grain,
        )


def make_plan(fields: CertifyFields, info: BackendInfo, *, max_samples_allowed: int) -> Plan:
    """Raises RequestError: out_of_range, unknown_sigma, budget_too_small or radius_unreachable."""
    key = _key(fields, info, max_samples_allowed)
    if (plan := _MADE.get(key)) is None:
        plan = _checked_plan(fields, info, max_samples_allowed)
        if len(_MADE) >= _KEPT:
            _MADE.pop(next(iter(_MADE)), None)
        _MADE[key] = plan
    return plan


def plan_made(fields: CertifyFields, info: BackendInfo, *, max_samples_allowed: int) -> bool:
    """Whether make_plan() has been asked for the same lately, and takes no time."""
    return _key(fields, info, max_samples_allowed) in _MADE


def _key(fields: CertifyFields, info: BackendInfo, max_samples_allowed: int) -> Hashable:
    """All that a plan depends on."""
    lists = (values if values is None else tuple(values) for values in (fields.threshold, fields.sigmas))
    rest = (fields.norm, fields.method, fields.samples, fields.alpha, fields.final)
    return (info, max_samples_allowed, fields.radius, *rest, *lists)


def _checked_plan(fields: CertifyFields, info: BackendInfo, max_samples_allowed: int) -> Plan:
    if fields.samples > max_samples_allowed:
        raise RequestError(
            "out_of_range",
            f"samples: expected at most {max_samples_allowed}, got {fields.samples}",
            field="samples",
            max_samples=max_samples_allowed,
        )
    check_alpha(fields.alpha)
    cascade = _cascade(fields, info)
    method = _method(fields, cascade)
    norm = _norm(fields, cascade, info)
    samples = _samples(fields, cascade, method, info)
    channels, height, width = info.input_shape
    plan = Plan(
        cascade=cascade,
        method=method,
        alpha=fields.alpha if method == "sampled" else 0.0,
        samples=samples,
        chunk=info.chunk,
        grain=info.grain,
        classes=len(info.class_names),
        dimension=channels * height * width,
        norm=norm,
        radius=fields.radius,
        target=target_of(fields.radius, norm, channels * height * width),
    )
    _check_reachable(plan)
    return plan


def norms_of(cascade: Cascade) -> list[Norm]:
    """Those that a radius may be requested in; the first is the certificate's own."""
    return ["l2", "linf", "l1"] if cascade.norm == "l2" else ["l1"]


def default_method(cascade: Cascade) -> Method:
    """The one that the noise allows: splitting is counted, every other noise is drawn."""
    return "deterministic" if any(kind == "splitting" for kind, _ in cascade.noises) else "sampled"


def least_samples(cascade: Cascade, *, alpha: float, info: BackendInfo) -> int:
    """The smallest budget that can certify anything. Raises ArithmeticError or ValueError where none can."""
    if default_method(cascade) == "deterministic":
        return sum(whole_counts(cascade))
    return min_samples(cascade, alpha=alpha, chunk=info.chunk, grain=info.grain)


def _kinds(cascade: Cascade) -> str:
    return " and ".join(dict.fromkeys(kind for kind, _ in cascade.noises))


def _method(fields: CertifyFields, cascade: Cascade) -> Method:
    needed = default_method(cascade)
    if fields.method not in (None, needed):
        why = "is drawn, and only splitting can be counted" if needed == "sampled" else "is counted, and never drawn"
        raise RequestError(
            "out_of_range",
            f"method: expected {needed}, since this bundle's {_kinds(cascade)} noise {why}, got {fields.method}",
            field="method",
        )
    return needed


def _norm(fields: CertifyFields, cascade: Cascade, info: BackendInfo) -> Norm:
    norm: Norm = info.norm if fields.norm is None else fields.norm
    if norm not in norms_of(cascade):
        raise RequestError(
            "out_of_range",
            f"norm: expected l1, the only norm that {_kinds(cascade)} noise certifies, got {norm}",
            field="norm",
        )
    return norm


def _samples(fields: CertifyFields, cascade: Cascade, method: Method, info: BackendInfo) -> int:
    """What may be spent: whole chunks, or every sample there is."""
    if method == "deterministic":
        if fields.samples < (whole := sum(whole_counts(cascade))):
            raise RequestError(
                "budget_too_small",
                f"samples: expected at least {whole}, every sample of these sigmas, got {fields.samples}",
                field="samples",
                min_samples=whole,
            )
        return whole
    samples = fields.samples // info.chunk * info.chunk
    can = reachable(cascade, alpha=fields.alpha, samples=samples, chunk=info.chunk, grain=info.grain)
    if not can and samples < (need := _min_samples(cascade, fields.alpha, info)):
        raise RequestError(
            "budget_too_small",
            f"samples: expected at least {need} for these sigmas, thresholds and alpha to certify anything, "
            f"got {fields.samples} ({samples} in whole chunks of {info.chunk})",
            field="samples",
            min_samples=need,
        )
    return samples


def round_down(value: float) -> float:
    """The largest six-decimal number at most value (0 for anything below): never above it, also in binary."""
    return max(0.0, float(Decimal(repr(value)).quantize(_GRID, context=_DOWN)))


def linf_of(radius: float, dimension: int) -> float:
    """The L-infinity radius inside an L2 ball, radius / sqrt(dimension), rounded down: |d|_2 <= sqrt(dim) |d|_inf."""
    return float(_DOWN.divide(Decimal(repr(radius)), _UP.sqrt(Decimal(dimension))).quantize(_GRID, context=_DOWN))


def largest_radius(plan: Plan) -> float:
    """The largest radius, in the units of plan.norm, that plan's scales, budget and alpha can certify."""
    if plan.method == "deterministic":
        return counted_limit(plan.cascade)
    radius = round_down(
        max_radius(plan.cascade, alpha=plan.alpha, samples=plan.samples, chunk=plan.chunk, grain=plan.grain)
    )
    return linf_of(radius, plan.dimension) if plan.norm == "linf" else radius


def chosen_sigmas(given: list[float] | None, info: BackendInfo) -> list[float]:
    """The scales that a request names, or the bundle's. Raises RequestError for others, and for one named twice."""
    chosen = list(info.sigmas) if given is None else given
    for sigma in chosen:
        if sigma not in info.sigmas:
            raise RequestError(
                "unknown_sigma",
                f"sigmas: expected some of {list(info.sigmas)}, got {sigma}",
                field="sigmas",
                sigmas=list(info.sigmas),
            )
    if len(set(chosen)) != len(chosen):
        raise RequestError("out_of_range", f"sigmas: expected each at most once, got {chosen}", field="sigmas")
    return chosen


def _cascade(fields: CertifyFields, info: BackendInfo) -> Cascade:
    chosen = chosen_sigmas(fields.sigmas, info)
    if fields.threshold is None:
        thresholds = [info.thresholds[info.sigmas.index(sigma)] for sigma in chosen]
    elif len(fields.threshold) == 1:
        thresholds = fields.threshold * len(chosen)
    elif len(fields.threshold) == len(chosen):
        thresholds = fields.threshold
    else:
        raise RequestError(
            "out_of_range",
            f"threshold: expected one value or one for each of {len(chosen)} sigmas, got {len(fields.threshold)}",
            field="threshold",
        )
    check_thresholds(fields.threshold or (), info.thresholds)
    pairs, final = sorted(zip(chosen, thresholds, strict=True)), fields.final or info.final
    if final == "plurality":
        pairs[0] = (pairs[0][0], UNREAD_THRESHOLD)
    kinds = dict(zip(info.sigmas, info.noises, strict=True))
    return cascade_of(
        [sigma for sigma, _ in pairs],
        [threshold for _, threshold in pairs],
        final,
        [kinds[sigma] for sigma, _ in pairs],
    )


def _min_samples(cascade: Cascade, alpha: float, info: BackendInfo) -> int:
    try:
        return least_samples(cascade, alpha=alpha, info=info)
    except (ArithmeticError, ValueError):
        # A threshold so near 1 that float64's bounds never pass it, whatever the samples; all else was checked before.
        raise RequestError(
            "out_of_range",
            f"threshold: expected values that some number of samples can pass, got {list(cascade.thresholds)}",
            field="threshold",
        ) from None


def target_of(requested: float | None, norm: Norm, dimension: int) -> float | None:
    """The least certified radius on the grid whose answer, as printed in `norm`, is at least the requested one."""
    if requested is None:
        return None
    # Printed radii lie on the grid: one is >= the request exactly when it is >= the request rounded up to the grid.
    radius = Decimal(repr(requested))
    if radius > 10**9:  # unreachable at any sigma, and too wide for the grid's 50 digits
        return requested
    target = radius.quantize(_GRID, context=_UP)
    if norm == "linf":
        target = _UP.multiply(target, _UP.sqrt(Decimal(dimension))).quantize(_GRID, context=_UP)
    return float(target)


def _check_reachable(plan: Plan) -> None:
    if plan.radius is None:
        return
    if plan.method == "sampled" and reachable(
        plan.cascade, alpha=plan.alpha, samples=plan.samples, radius=plan.target, chunk=plan.chunk, grain=plan.grain
    ):
        return
    # Both are in the units of norm, and `largest` lies on the grid: a request at the hint itself is accepted.
    if plan.radius > (largest := largest_radius(plan)):
        raise RequestError(
            "radius_unreachable",
            f"radius: expected at most {largest} ({plan.norm}) for these sigmas, samples and alpha, got {plan.radius}",
            field="radius",
            max_radius=largest,
        )
