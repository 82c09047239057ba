"""The shape of evidence, which is a certificate's payload too (docs/certificates.md). Reals are decimals in quotes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = (
    "CanonicalRequest",
    "CertifiedBundle",
    "CertifiedInput",
    "CertifiedLabel",
    "Counts",
    "Decimal",
    "Evidence",
    "Function",
    "FunctionLevel",
    "FunctionRuntime",
    "LevelCounts",
    "NoiseSource",
    "PlannedLook",
    "Sha256",
    "Statement",
    "Votes",
)

Decimal = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]*)(\.[0-9]+)?$", description="a decimal")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in hex")]
# Classes ascending: "3:31 8:1".
Votes = Annotated[str, Field(pattern=r"^([0-9]+:[0-9]+( [0-9]+:[0-9]+)*)?$", description="CLASS:VOTES, ascending")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CertifiedLabel(_Strict):
    index: int
    name: str


class Statement(_Strict):
    """What is said."""

    outcome: Literal["certified", "below_radius", "abstained"]
    label: CertifiedLabel | None
    radius: Decimal = Field(description="the base classifier's cascade answers label everywhere within it")
    radius_linf: Decimal | None
    norm: Literal["l2", "l1"] = Field(description="of radius")
    alpha: Decimal = Field(description="all bounds together fail with at most this probability; 0 if deterministic")
    method: Literal["sampled", "deterministic"]
    speaks_of: str


class CertifiedBundle(_Strict):
    name: str
    digest: str


class FunctionLevel(_Strict):
    """One scale of the cascade, and the constant of its noise."""

    sigma: Decimal
    threshold: Decimal
    noise: Literal["gaussian", "laplace", "uniform", "splitting"]
    b: Decimal | None = Field(default=None, description="of Laplace noise")
    grey_steps: int | None = Field(default=None, description="of uniform and splitting noise, from end to end")


class FunctionRuntime(_Strict):
    generator: str
    device: str
    engine: str
    dtype: str
    micro_batch: int


class Function(_Strict):
    """Of what it is said."""

    bundle: CertifiedBundle
    classes: int
    levels: list[FunctionLevel] = Field(description="ascending in sigma")
    final: Literal["plurality", "threshold"]
    runtime: FunctionRuntime


class CertifiedInput(_Strict):
    sha256: Sha256
    shape: tuple[int, int, int]
    encoding: str
    resized: bool
    turned: bool


class CanonicalRequest(_Strict):
    """The question, as the noise's seeds are bound to it."""

    samples: int
    radius: Decimal | None
    norm: Literal["l2", "linf", "l1"]
    alpha: Decimal
    plan: str = Field(description="version of how a stream is cut into looks")
    cut_short: bool = Field(description="a deadline came")


class PlannedLook(_Strict):
    samples: int = Field(description="it is at the first so many samples of the level's estimation stream")
    share: Decimal = Field(
        description="of the level's error: the bounds of this look alone hold but for alpha * weight * share, which is "
        "not alpha; all of them together hold but for alpha"
    )
    votes: Votes | None = Field(default=None, description="of all those samples; of a look that was taken")


class LevelCounts(_Strict):
    weight: Decimal = Field(description="the level's part of alpha")
    pilot: list[Votes] = Field(description="of each chunk; no bound rests on them")
    looks: list[PlannedLook] = Field(description="all that were planned, ascending")
    taken: int = Field(description="so many of them were taken")
    chunks: list[Votes] = Field(description="of each chunk of the estimation stream, up to the last look taken")


class Counts(_Strict):
    label: int | None = Field(description="the class that looks and weights were fixed for")
    chunk: int
    levels: list[LevelCounts]


class NoiseSource(_Strict):
    scheme: str
    key: str = Field(description="fingerprint of the seed key")
    scope_sha256: Sha256 = Field(description="of the seeds' scope")


class Evidence(_Strict):
    """All that is needed to compute the radius again, and with the seeds to draw the votes again."""

    version: Literal["certify-certificate-1"] = "certify-certificate-1"
    id: str
    issued_at: str
    statement: Statement
    function: Function
    input: CertifiedInput
    request: CanonicalRequest
    counts: Counts
    noise: NoiseSource
