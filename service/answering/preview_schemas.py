"""What POST /v1/preview takes and gives."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ...models.noises import NoiseKind
from .schemas import MAX_ITEMS, BundleName, InputFacts, Sigma, as_list

__all__ = ("Preview", "PreviewDraw", "PreviewFields", "PreviewLevel")


class PreviewFields(BaseModel):
    """As CertifyFields: strict, absent and null mean the default."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    sigmas: Annotated[list[Sigma], BeforeValidator(as_list), Field(min_length=1, max_length=MAX_ITEMS)] | None = Field(
        default=None, description="some of the bundle's noise scales, in any order; default: all"
    )
    # 2: enough to see that they differ. 4: each is a pass of the denoiser, the costly part of a sample.
    draws: int = Field(default=2, ge=1, le=4, description="pictures of each scale; each is a sample of the budget")
    resize: bool = Field(default=False, description="resize an image of another size instead of refusing it")


class PreviewDraw(BaseModel):
    """PNGs as data URLs, of the bundle's size, cut to 0..255."""

    noisy: str
    denoised: str | None = Field(description="null at a scale that the bundle classifies without denoising")


class PreviewLevel(BaseModel):
    sigma: float
    noise: NoiseKind
    draws: list[PreviewDraw]


class Preview(BaseModel):
    """What the network sees of an image. None of it is ever counted."""

    id: str
    image: str = Field(description="what enters the sampler, a PNG as a data URL")
    input: InputFacts
    bundle: BundleName
    levels: list[PreviewLevel] = Field(description="ascending in sigma")
