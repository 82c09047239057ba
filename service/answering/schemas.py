"""The shapes that cross HTTP: what `POST /certify` and `GET /info` take and give. No rule of statistics lives here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ...models.bundle import Final
from ...models.noises import NoiseKind
from ..core.reasons import Reason
from .evidence_schemas import Evidence

__all__ = (
    "MAX_ITEMS",
    "AnswerTiming",
    "BackendFacts",
    "BundleFacts",
    "BundleName",
    "CertifyAnswer",
    "CertifyFields",
    "Defaults",
    "Info",
    "InputFacts",
    "Label",
    "Limits",
    "Method",
    "Norm",
    "Probe",
    "Problem",
    "RuntimeFacts",
    "Sigma",
    "Stage",
    "Timing",
    "as_list",
)

Norm = Literal["l2", "linf", "l1"]
Method = Literal["sampled", "deterministic"]
Outcome = Literal["certified", "below_radius", "abstained"]
AbstainReason = Literal[Reason.DEADLINE, Reason.RIVAL_AT_LARGER_SIGMA, Reason.NO_STAGE_CONFIDENT, Reason.UNDECIDED]


def as_list(value: object) -> object:
    """One number stands for a list of one. bool is left alone, to be refused as what it is."""
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value


# Of thresholds and sigmas: many times the scales of any bundle in the literature (3).
MAX_ITEMS = 64
Threshold = Annotated[float, Field(ge=0.5, lt=1.0)]
Sigma = Annotated[float, Field(gt=0.0)]


class CertifyFields(BaseModel):
    """The fields of a request beside the image. Absent and null mean the default.

    Strict: 1 is not true, "0.5" is no number, and NaN and infinities are refused. A form's text is turned into these
    types before it comes here (service.answering.fields).
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    radius: float | None = Field(
        default=None,
        gt=0,
        description="requested radius in the units of norm; sampling stops as soon as the answer is known",
    )
    norm: Norm | None = Field(
        default=None,
        description="of radius; linf: met through the L2 radius divided by sqrt(C * H * W); noise other than Gaussian "
        "certifies l1 alone; default: the bundle's",
    )
    method: Method | None = Field(
        default=None,
        description="sampled: bounds from draws, right but for alpha; deterministic: every sample is counted, and "
        "nothing is left to chance, which needs splitting noise and no other; default: as the noise needs",
    )
    # 10,000: the second stage alone of the usual protocol takes as much for every sigma (Cohen et al. 2019).
    samples: int = Field(
        default=10_000, ge=1, description="most noise samples to spend over all sigmas, pilots included"
    )
    # 0.001: the failure probability in all of the literature's tables.
    alpha: float = Field(
        default=0.001, ge=1e-9, le=0.1, description="probability, over the noise, that this certificate is wrong"
    )
    threshold: (
        Annotated[list[Threshold], BeforeValidator(as_list), Field(min_length=1, max_length=MAX_ITEMS)] | None
    ) = Field(
        default=None,
        description="confidence at which a stage decides, in [0.5, 1): one value, or one per sigma in the order of "
        "sigmas (ascending when sigmas is not given); default: the bundle's",
    )
    final: Final | None = Field(default=None, description="how the finest sigma decides; default: the bundle's")
    sigmas: Annotated[list[Sigma], BeforeValidator(as_list), Field(min_length=1, max_length=MAX_ITEMS)] | None = Field(
        default=None, description="some of the bundle's noise scales, in any order; default: all"
    )
    # An hour: longer than any request of 100,000 samples takes; above it a typing error is likelier than a wish.
    deadline_ms: int | None = Field(
        default=None,
        ge=1,
        le=3_600_000,
        description="answer within this many milliseconds with what has been proved by then",
    )
    resize: bool = Field(default=False, description="resize an image of another size instead of refusing it")
    evidence: bool = Field(
        default=False, description="answer with all that is needed to compute the radius again (docs/certificates.md)"
    )
    signed: bool = Field(
        default=False,
        description="answer a signed certificate instead, as with Accept: application/vnd.certify.certificate.v1+json",
    )


class Label(BaseModel):
    """A class by its index in /info's list and its name there."""

    index: int
    name: str


class Stage(BaseModel):
    """One visit of one sigma. Bounds are as the state machine holds them, unrounded; radius_bound is rounded down."""

    sigma: float
    outcome: Literal["path", "passed", "open"] = Field(
        description="path: this sigma certifies; passed: every rival is below its threshold; open: neither"
    )
    samples: int = Field(description="estimation samples")
    pilot_samples: int = Field(description="pilot samples, never used in a bound")
    count: int = Field(description="votes for the label among the estimation samples")
    rival_count: int = Field(description="votes for the most voted other class")
    p_lower: float = Field(description="lower bound on the label's probability; the probability if deterministic")
    p_rival_upper: float = Field(description="upper bound on every other class's probability; the largest likewise")
    radius_bound: float | None = Field(
        description="largest radius that this stage's own bound allows, rounded down; null: it proves nothing"
    )
    noise: NoiseKind


class InputFacts(BaseModel):
    """The tensor that the certificate speaks of."""

    sha256: str = Field(description="SHA-256, in hex, of the tensor's little-endian float32 bytes in (C, H, W) order")
    shape: tuple[int, int, int] = Field(description="(C, H, W)")
    range: tuple[int, int] = Field(
        default=(0, 1), description="least and greatest pixel value; sigma and radii are in its units"
    )
    resized: bool
    turned: bool = Field(description="by its EXIF orientation")


class BundleName(BaseModel):
    name: str
    digest: str


class RuntimeFacts(BaseModel):
    """What computed the votes: equal seeds give equal votes wherever these agree. They are part of the seed."""

    generator: str
    device: str
    engine: str
    dtype: str
    micro_batch: int = Field(description="samples that the network takes together")


class Timing(BaseModel):
    total_seconds: float = Field(description="from the request's arrival, waiting included")
    sampling_seconds: float = Field(description="spent waiting for the backend's votes")


class AnswerTiming(Timing):
    cached: bool = Field(default=False, description="an equal question's answer, given again (CERTIFY_CACHE_ANSWERS)")


class CertifyAnswer(BaseModel):
    """What has been proved about one image, or that nothing has and why."""

    id: str
    outcome: Outcome = Field(
        description="certified: label holds within radius, which is at least requested_radius where one was asked; "
        "below_radius: a label is certified, but not that far; abstained: nothing is certified"
    )
    abstain_reason: AbstainReason | None
    label: Label | None
    sigma: float | None = Field(description="noise scale that certifies")
    radius: float = Field(description="certified radius in radius_norm, rounded down; 0 when abstaining")
    radius_norm: Literal["l2", "l1"] = Field(description="l2 where all noise is Gaussian, l1 where any is not")
    radius_linf: float | None = Field(
        description="certified L-infinity radius, radius / sqrt(C * H * W), rounded down; null where radius is in L1"
    )
    radius_l1: float = Field(description="certified L1 radius: an L2 radius is one too, since |d|_2 <= |d|_1")
    requested_radius: float | None
    norm: Norm = Field(description="of requested_radius")
    method: Method = Field(description="deterministic: every sample was counted, and alpha is 0")
    noise: list[NoiseKind] = Field(description="one per sigma of the request, ascending in sigma")
    uncertified_label: Label = Field(description="the plain classifier's answer on the clean image: no guarantee")
    alpha: float = Field(description="probability that this certificate is wrong; 0 if deterministic")
    threshold: list[float] = Field(description="one per sigma of the request, ascending in sigma")
    final: Final
    samples_used: int
    stages: list[Stage] = Field(description="coarsest first; scales that were never sampled are left out")
    input: InputFacts
    bundle: BundleName
    runtime: RuntimeFacts
    evidence: Evidence | None = Field(default=None, description="where it was asked for")
    seed_key_fingerprint: str = Field(description="16 hex digits: answers of one key can repeat each other")
    timing: AnswerTiming


class BundleFacts(BundleName):
    """What is certified against: classes, input shape, scales and noises."""

    version: str = Field(description="its maker's own; the digest has no part of it")
    classes: list[str]
    input_shape: tuple[int, int, int] = Field(description="(C, H, W)")
    sigmas: list[float] = Field(description="ascending, in units of [0, 1] pixels")
    thresholds: list[float] = Field(description="one per sigma")
    noise: list[NoiseKind] = Field(description="one per sigma, which is its standard deviation")
    norms: list[Norm] = Field(description="those that a radius may be requested in of all sigmas together")
    final: Final
    chunk: int = Field(description="samples are rounded down to multiples of this")


class BackendFacts(RuntimeFacts):
    kind: str
    libraries: dict[str, str] = Field(description="versions of what computes votes; a Triton server's are not known")


class Defaults(BaseModel):
    """What a request gets for the fields that it leaves out."""

    samples: int
    alpha: float = Field(description="not used where the method is deterministic")
    norm: Norm
    method: Method
    threshold: list[float]
    final: Final
    sigmas: list[float]
    resize: bool


class Limits(BaseModel):
    max_samples: int
    min_samples: int = Field(description="smallest samples at which anything can be certified with the defaults")
    max_radius: float = Field(description="largest radius that the defaults can certify, in their norm")
    max_body_bytes: int
    max_pixels: int
    max_batch: int = Field(description="most images of one POST /v1/certify/batch")
    max_running: int
    max_queued: int


class Info(BaseModel):
    version: str
    bundle: BundleFacts
    backend: BackendFacts
    defaults: Defaults
    limits: Limits
    seed_key: Literal["configured", "random"] = Field(
        description="random: answers repeat on this replica until it restarts, and on no other"
    )
    seed_key_fingerprint: str = Field(description="as in answers")


class Probe(BaseModel):
    """The answer of a probe that is well; a probe that is not answers with a problem document."""

    status: Literal["ok"] = "ok"


class Problem(BaseModel):
    """RFC 9457. `code` is stable; `detail` says what was expected, what came, and where. Hints are extra members, as is
    `timing`.
    """

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
