"""`certify dataset`, `curve` and `tune`: whole data sets, for researchers. cli/main.py adds them to the command."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ...models.datasets import DataSet, open_dataset
from ..answering.fields import parse_texts
from ..backends import open_backend
from ..core.certificate import Final
from ..errors import DataError
from ..research.curves import RADII, Curve, curves_of_tables, curves_of_votes, draw, draw_choice, load, markdown
from ..research.dataset_run import Asker, Here, There, run_id, survey
from ..research.policies import POLICIES, Policy
from ..research.tables import facts_path, open_table, read_table
from ..research.threshold_choice import best_curve, check_split, tune
from ..research.votes_file import load_votes
from ..research.votes_file_parts import VoteParts
from ..settings import Settings, load_settings
from .progress import Live, Steps

__all__ = ("curve_command", "dataset_command", "tune_command")


_RADII = ",".join(format(radius, "g") for radius in RADII)


@dataclass(frozen=True, kw_only=True)
class _Order:
    dataset: DataSet  # the part that is asked for
    data_facts: Mapping[str, object]  # of the whole
    out: Path
    policy: Policy
    texts: Mapping[str, str]
    votes: Path | None
    jobs: int


def dataset_command(
    name: Annotated[str, typer.Argument(help="digits, an .npz of JPEGs, or a folder with one folder a class.")],
    out: Annotated[Path, typer.Option(help="The table; a run that was cut off goes on where it was.")],
    part: Annotated[str | None, typer.Option(help="Of digits: train, tune or held_out [held_out].")] = None,
    bundle: Annotated[str | None, typer.Option(help="Name or path [CERTIFY_BUNDLE, or digits].")] = None,
    sigmas: Annotated[str | None, typer.Option(help="Some of the bundle's: 0.25,0.5 [all].")] = None,
    samples: Annotated[
        str | None,
        typer.Option(help="Most for each image; with --votes, or another policy than best: at each sigma [10000]."),
    ] = None,
    radius: Annotated[str | None, typer.Option(help="Requested radius; without one, as far as possible.")] = None,
    policy: Annotated[str, typer.Option(help=f"One of {', '.join(POLICIES)}.")] = "best",
    final: Annotated[str | None, typer.Option(help="plurality or threshold [the bundle's].")] = None,
    threshold: Annotated[str | None, typer.Option(help="One, or one per sigma: 0.5,0.6 [the bundle's].")] = None,
    alpha: Annotated[str | None, typer.Option(help="Probability that a certificate is wrong [0.001].")] = None,
    resize: Annotated[bool, typer.Option("--resize", help="Resize images of another size.")] = False,
    limit: Annotated[int | None, typer.Option(help="Only the first so many images.")] = None,
    shard: Annotated[str, typer.Option(help="i/n: every n-th image, beginning with the i-th.")] = "1/1",
    seed: Annotated[int | None, typer.Option(help="Of the noise [random; a run that goes on keeps its own].")] = None,
    votes: Annotated[Path | None, typer.Option(help="Keep all votes in this .npz, for every policy at once.")] = None,
    url: Annotated[str | None, typer.Option(help="Ask the service at this address instead of working here.")] = None,
    backend: Annotated[str | None, typer.Option(help="embedded, triton or fake [CERTIFY_BACKEND].")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Images at once; more fill a server, and blur each row's time.")] = 1,
) -> None:
    """Certify a labelled data set: a row for each image, in the field's format (idx label predict radius correct time).

    Rows are on disk as they come. Parameters and seed are kept beside the table, in OUT.json.
    """
    given = {
        "samples": samples, "radius": radius, "final": final, "threshold": threshold, "alpha": alpha, "sigmas": sigmas,
        "resize": "true" if resize else None,
    }  # fmt: skip
    if policy not in POLICIES:
        raise DataError(f"policy: expected one of {', '.join(POLICIES)}, got {policy!r}")
    own = {"--seed": seed, "--backend": backend, "--bundle": bundle, "--votes": votes}
    if url is not None and (mixed := [flag for flag, value in own.items() if value is not None]):
        raise DataError(f"{', '.join(mixed)}: expected none beside --url, whose service has its own")
    if url is not None and policy != "best":
        raise DataError(f"policy: expected best beside --url, since a service answers no other; got {policy}")
    whole = open_dataset(name, part=part)
    order = _Order(
        dataset=whole.part(limit=limit, shard=_shard(shard)),
        data_facts={"data": whole.name, "split": whole.split, "data_digest": whole.digest()},
        out=out,
        policy=policy,
        texts={name: text for name, text in given.items() if text is not None},
        votes=votes,
        jobs=jobs,
    )
    if url is not None:
        asyncio.run(_there(order, url))
    else:
        number = _seed(seed, out)
        flags = {name: value for name, value in (("backend", backend), ("bundle", bundle)) if value is not None}
        asyncio.run(_here(order, load_settings(**flags), number))
    typer.echo(markdown(curves_of_tables([read_table(out)])))


async def _here(order: _Order, settings: Settings, seed: int) -> None:
    fields = parse_texts({name: [text] for name, text in order.texts.items()})
    backend = open_backend(settings)
    await backend.open()
    try:
        asker = Here(backend, settings, fields, policy=order.policy, seed=seed)
        if order.votes is None:
            await _survey(order, asker)
            return
        parts = VoteParts(order.votes, backend.info().chunk, {**order.data_facts, **asker.votes_facts()})
        recorder = Here(backend, settings, fields, policy=order.policy, seed=seed, votes=parts)
        await _survey(order, recorder)
        # A row that was there before may have no votes: the file was removed, or named only now.
        labels = order.dataset.labels_in(recorder.classes)
        for position, idx in enumerate(order.dataset.idx):
            if parts.get(idx) is None:
                await recorder.ask(idx, labels[position], order.dataset.read(position))
        typer.echo(f"{order.votes}: votes of {parts.finish()} images")
    finally:
        await backend.close()


async def _there(order: _Order, url: str) -> None:
    async with There.open(url, order.texts) as asker:
        await _survey(order, asker)


async def _survey(order: _Order, asker: Asker) -> None:
    facts = {**order.data_facts, **asker.facts()}
    run = run_id(facts)
    with open_table(order.out, run, facts) as table, Live(len(order.dataset), table.done) as live:
        async for row in survey(order.dataset, asker, table, policy=order.policy, run=run, jobs=order.jobs):
            live.add(row)


def _shard(text: str) -> tuple[int, int]:
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal()):
        raise DataError(f"shard: expected i/n with 1 <= i <= n, got {text!r}")
    return int(number), int(of)


def _seed(seed: int | None, out: Path) -> int:
    """As given, or the one that the table was begun with, or a random one."""
    if seed is None and facts_path(out).exists():
        kept = json.loads(facts_path(out).read_text(encoding="utf-8")).get("seed")
        if isinstance(kept, int):
            return kept
    return secrets.randbits(63) if seed is None else seed


def curve_command(
    paths: Annotated[
        list[Path], typer.Argument(help="Tables of certify dataset, or one file of votes.", metavar="FILE...")
    ],
    out: Annotated[Path | None, typer.Option(help="Draw here: both a .png and an .svg. Needs matplotlib.")] = None,
    radii: Annotated[str, typer.Option(help="Where the table is cut.")] = _RADII,
    threshold: Annotated[str | None, typer.Option(help="Votes only: one, or one per sigma [the file's].")] = None,
    final: Annotated[str | None, typer.Option(help="Votes only: plurality or threshold [the file's].")] = None,
    title: Annotated[str, typer.Option(help="Of the picture.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for each curve.")] = False,
) -> None:
    """Certified accuracy against radius: a Markdown table, and with --out a picture.

    Tables of one run (shards) are one curve. A file of votes gives a curve for each policy and each scale alone;
    "reference" is as published, and not proved at alpha.
    """
    cuts = _numbers("radii", radii)
    if threshold is not None or final is not None:
        if len(paths) != 1 or paths[0].suffix != ".npz":
            raise DataError("threshold, final: expected one file of votes, since a table's are settled")
        votes = load_votes(paths[0])
        found = curves_of_votes(votes, thresholds=_thresholds(threshold, len(votes.sigmas)), final=_final(final))
    else:
        found = load(paths)
    if as_json:
        for each in found:
            typer.echo(json.dumps(_facts(each, cuts)))
    else:
        typer.echo(markdown(found, cuts))
    if out is not None:
        for path in draw(found, out, title=title):
            typer.echo(f"wrote {path}", err=True)


def _facts(curve: Curve, radii: list[float]) -> dict[str, Any]:
    return {
        "name": curve.name,
        "images": len(curve.correct),
        "certified_accuracy": {f"{r:g}": curve.accuracy(r) for r in radii},
        "acr": curve.acr,
        "abstained": curve.abstention,
        "wrong": curve.wrong,
        "mean_samples": curve.mean_samples,
    }


def tune_command(
    votes: Annotated[Path, typer.Argument(help="Votes of a validation split, from `certify dataset --votes`.")],
    target: Annotated[str, typer.Option(help="acr, or the radius whose certified accuracy is to be largest.")] = "acr",
    shared: Annotated[bool, typer.Option("--shared", help="One threshold for all sigmas, not one for each.")] = False,
    final: Annotated[str | None, typer.Option(help="plurality or threshold [the file's].")] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Certified accuracy at 0 to keep [the finest sigma's alone, less 0.02].")
    ] = None,
    judge: Annotated[Path | None, typer.Option(help="Votes of other images, by which the choice is judged.")] = None,
    out: Annotated[Path | None, typer.Option(help="Draw the trade-off here: .png and .svg. Needs matplotlib.")] = None,
) -> None:
    """Choose thresholds on a validation split's votes. Refuses the split that they will be judged by."""
    file = load_votes(votes)
    other = None if judge is None else load_votes(judge)
    check_split(file, other)
    rule = _final(final) or _final(file.final) or "plurality"
    radius = None if target == "acr" else _numbers("target", target)[0]
    with Steps() as steps:
        choice = tune(file, target=radius, shared=shared, final=rule, min_accuracy=min_accuracy, progress=steps.count)
    goal = "ACR" if radius is None else f"certified accuracy at {radius:g}"
    typer.echo(f"every candidate, planned from each pilot, by {goal}:\n")

    def value(curve: Curve) -> float:
        return curve.acr if radius is None else curve.accuracy(radius)

    typer.echo(markdown(sorted(choice.curves, key=value, reverse=True)))
    if not choice.kept:
        typer.echo(f"\nno candidate has a certified accuracy at 0 of {choice.floor:.3f}: the most accurate is chosen")
    elif choice.unconstrained != choice.chosen:
        typer.echo(f"\nwithout a floor under the certified accuracy at 0 ({choice.floor:.3f}) it would be:\n")
        typer.echo(markdown([choice.curves[choice.unconstrained]]))
    chosen = choice.candidates[choice.chosen]
    typer.echo("\nthe choice, on the images that it was made on:\n")
    typer.echo(markdown([choice.curves[choice.chosen]]))
    typer.echo(f"\nchosen: --threshold {','.join(f'{t:g}' for t in chosen)} --final {rule}")
    if other is not None:
        typer.echo(f"\njudged by {judge}:\n")
        typer.echo(markdown([best_curve(other, chosen, rule)]))
    if out is not None:
        points = np.array([[curve.accuracy(0.0), value(curve)] for curve in choice.curves])
        if radius is not None:
            points = np.array([[value(curve), curve.acr] for curve in choice.curves])
        names = ("certified accuracy at 0", "ACR") if radius is None else (goal, "ACR")
        for path in draw_choice(points, choice.chosen, out, labels=names):
            typer.echo(f"wrote {path}", err=True)


def _numbers(name: str, text: str) -> list[float]:
    try:
        values = [float(each) for each in text.split(",")]
    except ValueError:
        raise DataError(f"{name}: expected numbers with commas between, got {text!r}") from None
    if not all(np.isfinite(values)) or min(values) < 0:
        raise DataError(f"{name}: expected finite numbers >= 0, got {text!r}")
    return values


def _thresholds(text: str | None, levels: int) -> list[float] | None:
    if text is None:
        return None
    values = _numbers("threshold", text)
    if len(values) not in (1, levels) or not all(0.5 <= value < 1 for value in values):
        raise DataError(f"threshold: expected one value or {levels}, each in [0.5, 1), got {text!r}")
    return values * levels if len(values) == 1 else values


def _final(text: str | None) -> Final | None:
    match text:
        case None | "plurality" | "threshold":
            return text
    raise DataError(f"final: expected plurality or threshold, got {text!r}")
