"""The shapes of what is said before an answer: progress, and a batch's lines (docs/api.md)."""

from __future__ import annotations

from pydantic import BaseModel, Field

from .schemas import CertifyAnswer, Label, Problem, Stage

__all__ = ("BatchLine", "ClassVotes", "Progress", "ProgressLevel")


class ClassVotes(Label):
    count: int = Field(description="votes of the samples so far, pilots among them")


class ProgressLevel(Stage):
    votes: list[ClassVotes] = Field(description="of the ten most voted classes")


class Progress(BaseModel):
    """What is proved so far, which stands whatever comes after."""

    samples: int = Field(description="drawn so far")
    samples_limit: int
    label: Label | None
    sigma: float | None
    radius: float = Field(description="0 before anything is proved; it never falls")
    levels: list[ProgressLevel] = Field(description="coarsest first")


class BatchLine(BaseModel):
    """One image's."""

    index: int
    name: str = ""
    answer: CertifyAnswer | None = None
    problem: Problem | None = None
