"""`certify dataset`: a whole labelled data set, here or by a service, for researchers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ...models.datasets import DataSet, open_dataset
from ...models.files import check_file
from ..answering.fields import parse_texts
from ..answering.schemas import CertifyFields
from ..answering.signing import read_signer
from ..backends import open_backend
from ..backends.base import Backend
from ..errors import DataError
from ..research.certificates import Certificates
from ..research.certifiers import LocalCertifier, RemoteCertifier, RowCertifier
from ..research.crops import center_cropped, marked_as_cropped
from ..research.curves import INTERVALS, curves_of_tables, markdown
from ..research.dataset_run import certify_dataset, run_id
from ..research.missing import shard_of
from ..research.policies import POLICIES, Policy
from ..research.run_notes import RunNotes
from ..research.tables import facts_path, load_facts, open_table, read_table
from ..research.votes_file_parts import open_votes
from ..settings import Settings, load_settings
from .options import (
    TOGETHER,
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
    given,
    parse_resize,
    read_key,
    with_request_options,
)
from .progress import Live

__all__ = ("dataset", "parse_shard")


@dataclass(frozen=True, kw_only=True)
class _Order:
    dataset: DataSet  # the part that is asked for
    data_facts: Mapping[str, object]  # of the whole
    shard: tuple[int, int]
    images: int  # of all shards together
    crop: bool  # images to the bundle's size, by their centre
    out: Path
    policy: Policy
    texts: Mapping[str, str]
    votes: Path | None
    certificates: Certificates | None
    jobs: int

    @property
    def place(self) -> dict[str, object]:
        """Of this part in what all shards are, as OUT.json has it."""
        return {"images": self.images, "shard": "{}/{}".format(*self.shard)}


@with_request_options
def dataset(
    name: DataArgument,
    out: Annotated[Path, typer.Option(help="The table; a run that was cut off goes on where it was.")],
    part: PartOption = None,
    bundle: BundleOption = None,
    policy: Annotated[str, typer.Option(help=f"One of {', '.join(POLICIES)}.")] = "best",
    *,
    resize: ResizeOption = None,
    limit: LimitOption = None,
    shard: ShardOption = "1/1",
    seed: SeedOption = None,
    votes: Annotated[Path | None, typer.Option(help="Keep all votes in this .npz, for every policy at once.")] = None,
    certificates: Annotated[
        Path | None, typer.Option(help="Write each row's certificate here, signed if CERTIFY_SIGNING_KEY_FILE is set.")
    ] = None,
    url: UrlOption = None,
    key_file: KeyFileOption = None,
    backend: BackendOption = None,
    jobs: JobsOption = None,
    **fields: str | bool | None,
) -> None:
    """Certify a labelled data set: a row for each image, in the field's format (idx label predict radius correct time).

    Rows are on disk as they come. Parameters and seed are kept beside the table, in OUT.json, with what was passed over
    of DATA and what is wrong with each image that cannot be used: its row is an abstention, with the outcome invalid.

    With --votes, or another policy than best, --samples are spent at each sigma and not in all, after a
    pilot of 100 there, in whole chunks.
    """
    if url is not None:
        _refuse_beside_url(policy, {"--seed": seed, "--backend": backend, "--bundle": bundle, "--votes": votes})
    _check_places(out, votes)
    crop = parse_resize(resize) == "center-crop"
    whole, place = open_dataset(name, part=part), parse_shard(shard)
    whole = marked_as_cropped(whole) if crop else whole
    order = _Order(
        dataset=whole.part(limit=limit, shard=place),
        data_facts={
            "data": whole.name,
            "split": whole.split,
            "data_digest": whole.digest(),
            **({"crop": "center"} if crop else {}),
        },
        shard=place,
        images=len(whole.part(limit=limit)),
        crop=crop,
        out=out,
        policy=_policy(policy),
        texts=given({**fields, "resize": resize is not None and not crop, "evidence": certificates is not None}),
        votes=votes,
        certificates=None if certificates is None else _certificates(certificates),
        jobs=jobs or (1 if url is None else TOGETHER),
    )
    if url is not None:
        asyncio.run(_by_service(order, url, read_key(key_file)))
    else:
        settings = load_settings(backend=backend, bundle=bundle)
        asyncio.run(_here(order, settings, _seed(seed, out)))
    typer.echo(f"{markdown(curves_of_tables([read_table(out)]))}\n\n{INTERVALS}")


def _certificates(folder: Path) -> Certificates:
    key_file = load_settings().signing_key_file
    return Certificates(folder, None if key_file is None else read_signer(key_file))


def _policy(text: str) -> Policy:
    for policy in POLICIES:
        if text == policy:
            return policy
    raise DataError(f"policy: expected one of {', '.join(POLICIES)}, got {text!r}")


def _refuse_beside_url(policy: str, own: Mapping[str, object]) -> None:
    """own: options of work in this process, by their flags."""
    if mixed := [flag for flag, value in own.items() if value is not None]:
        raise DataError(f"{', '.join(mixed)}: expected none beside --url, whose service has its own")
    if policy != "best":
        raise DataError(f"policy: expected best beside --url, since a service answers no other; got {policy}")


async def _here(order: _Order, settings: Settings, seed: int) -> None:
    fields = parse_texts({name: [text] for name, text in order.texts.items()})
    backend = open_backend(settings)
    await backend.open()
    try:
        certifier = LocalCertifier(
            backend, settings, fields, policy=order.policy, seed=seed, certificates=order.certificates
        )
        if order.votes is None:
            await _certify(order, certifier)
        else:
            await _record(order, order.votes, certifier.votes_facts(), backend, settings, fields, seed)
    finally:
        await backend.close()


async def _record(
    order: _Order,
    path: Path,
    votes_facts: Mapping[str, object],
    backend: Backend,
    settings: Settings,
    fields: CertifyFields,
    seed: int,
) -> None:
    """Certify, and keep every vote in the file `path`."""
    shard = (*order.shard, order.images)
    with open_votes(path, backend.info(), {**order.data_facts, **votes_facts}, shard=shard) as parts:
        recorder = LocalCertifier(backend, settings, fields, policy=order.policy, seed=seed, votes=parts)
        invalid = await _certify(order, recorder)
        # A row that was there before may have no votes: the file was removed or damaged, or named only now.
        dataset = _prepared(order, recorder)
        labels = dataset.labels_in(recorder.classes)
        for position, idx in enumerate(dataset.idx):
            if idx not in invalid and parts.get(idx) is None:
                await recorder.certify(idx, labels[position], dataset.read(position))
        typer.echo(f"{path}: votes of {parts.finish()} images")


async def _by_service(order: _Order, url: str, key: str | None) -> None:
    async with RemoteCertifier.open(url, order.texts, key=key, certificates=order.certificates) as certifier:
        await _certify(order, certifier)


async def _certify(order: _Order, certifier: RowCertifier) -> Container[int]:
    """The idx of every image that cannot be used."""
    facts = {**order.data_facts, **certifier.facts()}
    run, dataset = run_id(facts), _prepared(order, certifier)
    place = {**order.place, "about": certifier.about().model_dump(mode="json")}
    notes = RunNotes(order.out, run, facts, dataset, certifier.classes, place=place)
    with open_table(order.out, run, facts, notes.as_facts()) as table, Live(len(dataset), table.done) as live:

        def on_invalid(idx: int, wrong: str) -> None:
            live.say(f"image {idx}: {wrong}")
            notes.add(idx, wrong)

        async for row in certify_dataset(
            dataset, certifier, table, policy=order.policy, run=run, jobs=order.jobs, on_invalid=on_invalid
        ):
            live.add(row)
    for line in notes.lines():
        typer.echo(line, err=True)
    return notes.invalid


def _prepared(order: _Order, certifier: RowCertifier) -> DataSet:
    return center_cropped(order.dataset, certifier.input_shape) if order.crop else order.dataset


def _check_places(out: Path, votes: Path | None) -> None:
    """Before anything is loaded or drawn. Raises DataError."""
    check_file(out)
    if votes is not None:
        check_file(votes)
        if votes.resolve() in (out.resolve(), facts_path(out).resolve()):
            raise DataError(f"votes: expected another file than the table's, got {votes}")


def parse_shard(text: str) -> tuple[int, int]:
    """`2/3` -> (2, 3). Raises DataError."""
    if (place := shard_of(text)) is None:
        raise DataError(f"shard: expected i/n with 1 <= i <= n, got {text[:40]!r}")
    return place


def _seed(seed: int | None, out: Path) -> int:
    """As given, or the one that the table was begun with, or a random one."""
    if seed is not None:
        return seed
    if facts_path(out).exists():
        kept = load_facts(facts_path(out)).get("seed")
        if kept is not None and type(kept) is not int:
            raise DataError(f"{facts_path(out)}: seed: expected an integer, got {kept!r}")
        if kept is not None:
            return kept
    return secrets.randbits(63)
