"""The shapes of what is said before an answer: progress, and a batch's lines (docs/api.md)."""

from __future__ import annotations

from pydantic import BaseModel, Field, JsonValue

from .schemas import CertifyAnswer, Label, Problem, Stage

__all__ = ("BatchLine", "ClassVotes", "Progress", "ProgressLevel")


class ClassVotes(Label):
    count: int = Field(description="votes of the samples so far, pilots among them")


class ProgressLevel(Stage):
    """A stage as it is now."""

    votes: list[ClassVotes] = Field(description="of the ten most voted classes")


class Progress(BaseModel):
    """What is proved so far, which stands whatever comes after."""

    samples: int = Field(description="drawn so far, pilots among them")
    samples_limit: int = Field(description="most that may be drawn")
    label: Label | None
    sigma: float | None = Field(description="noise scale that certifies")
    radius: float = Field(description="rounded down; 0 before anything is proved; it never falls")
    levels: list[ProgressLevel] = Field(description="coarsest first; scales that were never sampled are left out")


class BatchLine(BaseModel):
    """One image of a batch: an answer, a certificate or a problem."""

    index: int = Field(description="of the image in the request, from 0")
    name: str = Field(default="", description="as it was sent; empty where there was none")
    answer: CertifyAnswer | None = None
    certificate: dict[str, JsonValue] | None = Field(default=None, description="a DSSE envelope, where it is signed")
    problem: Problem | None = Field(
        default=None, description="with retry_after_seconds, where it passes by itself (429, 503)"
    )
