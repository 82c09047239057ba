"""report.md: the same figures, for a pull request or a model's card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .page import MOST_CLASSES, facts_of
from .schemas import Report, Share
from .texts import in_markdown
from .words import NORMS

__all__ = ("as_markdown",)


def as_markdown(report: Report) -> str:
    """Names from outside are text in it, and nothing else."""
    data = report.data
    lines = [
        f"# Audit of the model {in_markdown(report.model.bundle)} on the data {in_markdown(data.name)}",
        "",
        f"{data.images} images, part {in_markdown(data.part)}. Run {report.run}, {report.made_at}.",
        "",
        *_notes(report),
        "## What this says",
        "",
        *(f"- {sentence}" for sentence in report.says),
        "",
        *_accuracy(report),
        "## What became of the images",
        "",
        *_table(
            ["outcome", "reason", "of", "images", "share", "interval"],
            ([each.outcome, in_markdown(each.reason or ""), *_share(each.images)] for each in report.outcomes),
        ),
        *_classes(report),
        *_cost(report),
    ]
    for title, facts in facts_of(report):
        lines += [
            f"## {title}",
            "",
            *_table(["", ""], ([in_markdown(name), in_markdown(value)] for name, value in facts)),
        ]
    lines += ["## How to repeat it", "", *(f"    {line}" for line in report.repeat.splitlines()), ""]
    return "\n".join(lines)


def _accuracy(report: Report) -> list[str]:
    return [
        "## Certified accuracy",
        "",
        f"Right, and at least this radius ({NORMS[report.model.norm]}, pixels in [0, 1]). Intervals are exact, at "
        f"confidence {report.confidence:.10g}, each for itself; the band of the curve is ±{report.curve.band:.4f} at "
        f"all radii at once. ACR {report.acr.value:.4f} ({report.acr.lower:.4f} to {report.acr.upper:.4f} at 95%, by "
        "resampling).",
        "",
        *_table(
            ["radius", "images", "certified", "share", "interval", "truly at least", "wrong"],
            (
                [f"{at.radius:.10g}", *_share(at.certified), f"{at.robust:.4f}", str(at.wrong)]
                for at in report.radii
            ),
        ),
    ]  # fmt: skip


def _classes(report: Report) -> list[str]:
    place = [at.radius for at in report.radii].index(report.class_radius)
    rows = (
        [
            in_markdown(each.name), *_share(each.at[place].certified), f"{each.at[place].robust:.4f}",
            str(each.wrong), str(each.abstained),
        ]
        for each in report.classes[:MOST_CLASSES]
    )  # fmt: skip
    return [
        f"## Classes at radius {report.class_radius:.10g}, the worst first",
        "",
        *_table(
            ["class", "images", "certified", "share", "interval", "truly at least", "wrong", "abstained"],
            rows,
        ),
    ]


def _cost(report: Report) -> list[str]:
    cost = report.cost
    took = "" if cost.seconds is None else (
        f"; {cost.seconds:.1f} seconds, summed over images, of which several may run at once"
    )  # fmt: skip
    return ["## Cost", "", f"{cost.samples} noise samples, {cost.samples_an_image:.1f} an image{took}.", ""]


def _notes(report: Report) -> list[str]:
    data = report.data
    lines = []
    if data.images < data.rows:
        lines += [f"{data.rows - data.images} images are the same files as others: each file counts once.", ""]
    missing = [*report.shards.missing, *report.shards.unfinished]
    if missing:
        lines += [
            f"**Not whole:** {data.rows} of {data.asked} images; shards that are missing or not at their end: "
            f"{', '.join(missing)}.",
            "",
        ]
    return lines


def _share(share: Share) -> list[str]:
    """Four cells."""
    return [str(share.of), str(share.count), f"{share.share:.4f}", f"{share.lower:.4f} to {share.upper:.4f}"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), ""]
