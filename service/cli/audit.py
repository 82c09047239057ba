"""`certify audit`: what certificates of a data set say of a model, as a report for whoever ships or judges it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ...models.datasets import open_dataset
from ..errors import DataError
from ..research.audit.report import CERTIFICATES, Audited, check_ready, rows_path, write_report
from ..research.audit.schemas import Report
from ..research.crops import center_cropped, marked_as_cropped
from ..research.tables import facts_path, load_facts
from ..settings import load_settings
from .dataset import dataset, parse_shard
from .options import (
    BackendOption,
    BundleOption,
    DataArgument,
    JobsOption,
    KeyFileOption,
    LimitOption,
    PartOption,
    ResizeOption,
    SeedOption,
    ShardOption,
    UrlOption,
    numbers,
    parse_resize,
    with_request_options,
)

__all__ = ("audit",)


@with_request_options
def audit(
    name: DataArgument,
    out: Annotated[Path, typer.Option(help="A folder; a run that was cut off goes on where it was.")] = Path("audit"),
    part: PartOption = None,
    bundle: BundleOption = None,
    *,
    radius: Annotated[
        str | None, typer.Option(metavar="NUMBER,...", help="Where the report has figures [radii that suit the rows].")
    ] = None,
    # .95: what most readers take an interval for when it is not said.
    confidence: Annotated[float, typer.Option(help="Of the report's intervals and bounds, in (0, 1).")] = 0.95,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Show pictures of the data.")] = True,
    resize: ResizeOption = None,
    limit: LimitOption = None,
    shard: ShardOption = "1/1",
    seed: SeedOption = None,
    url: UrlOption = None,
    key_file: KeyFileOption = None,
    backend: BackendOption = None,
    jobs: JobsOption = None,
    **fields: str | bool | None,
) -> None:
    """Audit a model on labelled data: how much is certified at which radius, in which classes not, and what that says.

    Rows are those of certify dataset, and go on as there. The folder gets report.html (one file, for people),
    report.json, report.md, junit.xml and model.cdx.json (CycloneDX), and certificates where CERTIFY_SIGNING_KEY_FILE
    is set. With shards, each run writes the report of all rows that the folder has by then.
    """
    radii = [] if radius is None else sorted(set(numbers("radius", radius)))
    _check(out, confidence, fields)
    place = parse_shard(shard)
    rows = rows_path(out, place)
    dataset(
        name, rows, part, bundle, "best", resize=resize, limit=limit, shard=shard, seed=seed, votes=None,
        certificates=_certificates(out), url=url, key_file=key_file, backend=backend, jobs=jobs, **fields,
    )  # fmt: skip
    whole = open_dataset(name, part=part).part(limit=limit)
    crop = parse_resize(resize) == "center-crop"
    facts = load_facts(facts_path(rows))
    channels, height, width = facts["about"]["input_shape"]
    options = {
        "part": part, "radius": radius, "confidence": f"{confidence:.10g}", "resize": resize, "limit": limit,
        "url": url, "key_file": key_file, "no_images": not images, **fields,
    }  # fmt: skip
    if url is None:
        settings = load_settings(backend=backend, bundle=bundle)
        options |= {"bundle": settings.bundle, "backend": settings.backend, "seed": facts["seed"]}
    report = write_report(
        out,
        Audited(
            dataset=center_cropped(marked_as_cropped(whole), (channels, height, width)) if crop else whole,
            shards=place[1],
            radii=radii,
            confidence=confidence,
            resized=resize is not None and not crop,
            images=images,
            repeat=_command(name, options),
        ),
    )
    _say(out, report)


def _check(out: Path, confidence: float, fields: Mapping[str, object]) -> None:
    if not 0 < 1 - confidence < 1:
        raise DataError(f"confidence: expected a probability in (0, 1), got {confidence:g}")
    if fields.get("norm") is not None:
        raise DataError(
            "norm: expected none, since an audit asks for no radius: its radii are in the certificates' norm"
        )
    check_ready()
    if out.exists() and not out.is_dir():
        raise DataError(f"out: expected a folder, or none yet, got {out}")


def _certificates(out: Path) -> Path | None:
    return None if load_settings().signing_key_file is None else out / CERTIFICATES


def _command(name: str, options: Mapping[str, object]) -> str:
    """What repeats the audit in a shell, without the options that were not given."""
    words = ["certify", "audit", name]
    for option, value in options.items():
        flag = f"--{option.replace('_', '-')}"
        if value is not None and value is not False:
            words.append(flag if value is True else f"{flag}={value}")
    return shlex.join(words)


def _say(out: Path, report: Report) -> None:
    for each in report.shards.missing:
        typer.echo(f"shard {each}: missing", err=True)
    for each in report.shards.unfinished:
        typer.echo(f"shard {each}: not at its end", err=True)
    if report.data.images < report.data.rows:
        typer.echo(f"the report counts each file once: {report.data.images} in {report.data.rows} rows", err=True)
    typer.echo(
        f"wrote {out / 'report.html'}, and beside it report.json, report.md, junit.xml, model.cdx.json", err=True
    )
