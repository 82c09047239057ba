"""report.json: what the other forms of a report show, number for number.

Shares and their bounds have four digits after the point, lower bounds rounded down and upper ones up; radii have six.
Names are as they are shown: what does not print in them stands as an escape.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..about import About

__all__ = (
    "Acr",
    "AtRadius",
    "ClassAtRadius",
    "ClassFigures",
    "Cost",
    "CurveFigures",
    "Data",
    "Example",
    "Outcome",
    "Report",
    "Share",
    "Shards",
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Share(_Strict):
    """`count` of `of` images. The interval is Clopper and Pearson's, two-sided, and holds for itself alone."""

    count: int
    of: int
    share: float
    lower: float
    upper: float


class AtRadius(_Strict):
    """Certified accuracy at one radius."""

    radius: float
    certified: Share = Field(description="with the right label, and at least this radius")
    robust: float = Field(
        description="of all inputs like these, at least so many are classified right everywhere within the radius: "
        "(L - alpha) / (1 - alpha), L the one-sided lower bound of the share certified; one-sided, for itself alone"
    )
    wrong: int = Field(description="certified with another label than the data's, and at least this radius")


class Acr(_Strict):
    """Average certified radius, 0 where wrong or abstained. It rewards giving up: never read it alone."""

    value: float
    lower: float = Field(description="95%, by resampling images: not exact")
    upper: float


class ClassAtRadius(_Strict):
    certified: Share
    robust: float = Field(description="as of all images; those of all classes hold at once, at this radius")


class ClassFigures(_Strict):
    """Images whose label in the data is this class."""

    index: int = Field(description="in model.classes")
    name: str
    right: int = Field(description="certified with this label")
    wrong: int = Field(description="certified with another label")
    abstained: int = Field(description="images that cannot be used among them")
    at: list[ClassAtRadius] = Field(description="as `radii`")


class Outcome(_Strict):
    """What became of images. Those of all outcomes and reasons are all images."""

    outcome: Literal["right", "wrong", "abstained", "invalid"] = Field(
        description="right, wrong: certified, with the data's label or another; invalid: the image cannot be used, "
        "which counts as abstained"
    )
    reason: str | None = Field(description="of abstained as in an answer, of invalid the error's code")
    images: Share


class CurveFigures(_Strict):
    """Certified accuracy at evenly spaced radii."""

    radius: list[float]
    share: list[float]
    band: float = Field(
        description="share - band to share + band holds the true curve at all radii at once (Dvoretzky, Kiefer and "
        "Wolfowitz 1956; Massart 1990)"
    )


class Data(_Strict):
    name: str
    part: str
    digest: str = Field(description="of all images, labels and numbers of the data, whatever was audited of them")
    cropped: bool = Field(description="to the model's size, by the centre")
    resized: bool = Field(description="to the model's size, as a request's `resize` does")
    asked: int = Field(description="images to be audited")
    rows: int = Field(description="images that were; fewer than `asked` where shards are missing or not at their end")
    images: int = Field(description="of these, each that is the same file as another counted once: all figures' n")
    labels: Literal["by name", "by number"]
    skipped: dict[str, int] = Field(description="why files were passed over, and how many")
    invalid: dict[int, str] = Field(description="number of an image that cannot be used, and what is wrong with it")


class Shards(_Strict):
    number: int
    missing: list[str] = Field(description="as `2/3`: without a table in the report's folder")
    unfinished: list[str]


class Cost(_Strict):
    samples: int = Field(description="drawn for all images, pilots included")
    samples_an_image: float
    seconds: float | None = Field(description="sum of each image's own time; where several ran at once, more than went")


class Example(_Strict):
    kind: Literal["certified", "abstained", "wrong"]
    idx: int
    label: str = Field(description="the data's")
    certified: str | None = Field(description="the label that was certified")
    radius: float
    reason: str | None


class Report(_Strict):
    """An audit: what certificates of a data set say of it, and of all inputs like it."""

    version: Literal["certify-audit-1"] = "certify-audit-1"
    run: str = Field(description="12 hex digits of all that rows depend on")
    made_at: str = Field(description="UTC, as 2026-11-26T12:00:00Z")
    confidence: float = Field(description="of intervals, bounds and the band")
    data: Data
    model: About
    parameters: dict[str, object] = Field(description="those that rows depend on, as in the table's own JSON")
    shards: Shards
    radii: list[AtRadius]
    acr: Acr
    curve: CurveFigures
    outcomes: list[Outcome]
    classes: list[ClassFigures] = Field(description="those that the data have, the worst at `class_radius` first")
    class_radius: float
    cost: Cost
    examples: list[Example]
    certificates: int = Field(description="files in `certificates/`")
    says: list[str] = Field(description="what follows, in words")
    repeat: str = Field(description="a shell command")
