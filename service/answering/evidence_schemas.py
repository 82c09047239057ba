"""The shape of evidence, which is a certificate's payload too (docs/certificates.md). Reals are decimals in quotes.

docs/certificate.schema.json is made of it (payload_schema), and says as much of the form as a schema can.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

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
    "Text",
    "Votes",
    "Whole",
    "payload_schema",
)

Decimal = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,11})(\.[0-9]{0,29}[1-9])?$", description="a decimal")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in hex")]
# Beyond 15 digits RFC 8785's numbers are not exact.
Whole = Annotated[int, Field(ge=0, le=10**15 - 1)]
Text = Annotated[str, Field(min_length=1)]
# Classes ascending: "3:31 8:1".
_ONE = "(0|[1-9][0-9]{0,8}):[1-9][0-9]{0,8}"
Votes = Annotated[str, Field(pattern=rf"^({_ONE}( {_ONE})*)?$", description="CLASS:VOTES, ascending")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CertifiedLabel(_Strict):
    index: Whole
    name: Text


class Statement(_Strict):
    """What is said."""

    outcome: Literal["certified", "below_radius", "abstained"]
    label: CertifiedLabel | None
    radius: Decimal = Field(description="the base classifier's cascade answers label everywhere within it")
    radius_linf: Decimal | None
    norm: Literal["l2", "l1"] = Field(description="of radius")
    alpha: Decimal = Field(description="all bounds together fail with at most this probability; 0 if deterministic")
    method: Literal["sampled", "deterministic"]
    speaks_of: Text


class CertifiedBundle(_Strict):
    name: Text
    version: str = Field(description="its maker's own")
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")


class FunctionLevel(_Strict):
    """One scale of the cascade, and the constant of its noise."""

    sigma: Decimal
    threshold: Decimal
    noise: Literal["gaussian", "laplace", "uniform", "splitting"]
    b: Decimal | None = Field(description="of Laplace noise")
    grey_steps: Whole | None = Field(description="of uniform and splitting noise, from end to end")


class FunctionRuntime(_Strict):
    generator: Text
    device: Text
    engine: Text
    dtype: Text
    micro_batch: Whole
    libraries: dict[str, Text] = Field(
        description="versions of what computed the votes; a Triton server's are not known"
    )


class Function(_Strict):
    """Of what it is said."""

    bundle: CertifiedBundle
    classes: int = Field(ge=2, le=1_000_000)
    levels: list[FunctionLevel] = Field(description="ascending in sigma")
    final: Literal["plurality", "threshold"]
    runtime: FunctionRuntime


class CertifiedInput(_Strict):
    sha256: Sha256
    shape: tuple[Whole, Whole, Whole] = Field(description="(C, H, W)")
    encoding: Literal["float32, little-endian, (C, H, W), pixels k/255"]
    resized: bool
    turned: bool


class CanonicalRequest(_Strict):
    """The question, as the noise's seeds are bound to it."""

    samples: int = Field(ge=0, le=100_000_000)
    radius: Decimal | None
    norm: Literal["l2", "linf", "l1"]
    alpha: Decimal
    plan: str = Field(pattern=r"^certify-plan-[0-9]+$", description="version of how a stream is cut into looks")
    cut_short: bool = Field(description="a deadline came")


class PlannedLook(_Strict):
    samples: Whole = Field(description="it is at the first so many samples of the level's estimation stream")
    share: Decimal = Field(
        description="of the level's error: the bounds of this look alone hold but for alpha * weight * share, which is "
        "not alpha; all of them together hold but for alpha"
    )
    votes: Votes | None = Field(description="of all those samples; of a look that was taken")


class LevelCounts(_Strict):
    weight: Decimal = Field(description="the level's part of alpha")
    pilot: list[Votes] = Field(description="of each chunk; no bound rests on them")
    looks: list[PlannedLook] = Field(description="all that were planned, ascending")
    taken: Whole = Field(description="so many of them were taken")
    chunks: list[Votes] = Field(description="of each chunk of the estimation stream, up to the last look taken")


class Counts(_Strict):
    label: Whole | None = Field(description="the class that looks and weights were fixed for")
    chunk: int = Field(ge=1)
    levels: list[LevelCounts]


class NoiseSource(_Strict):
    scheme: str = Field(pattern=r"^certify-seed-v[0-9]+$")
    key: Text = Field(description="fingerprint of the seed key")
    scope_sha256: Sha256 = Field(description="of the seeds' scope")


class Evidence(_Strict):
    """All that is needed to compute the radius again, and with the seeds to draw the votes again."""

    version: Literal["certify-certificate-1"]
    id: Text
    issued_at: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")
    statement: Statement
    function: Function
    input: CertifiedInput
    request: CanonicalRequest
    counts: Counts
    noise: NoiseSource


def payload_schema() -> dict[str, Any]:
    """docs/certificate.schema.json: of the payload, as JSON Schema 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:certify:certificate-1",
        **Evidence.model_json_schema(),
    }
