"""`certify gate`: does this release certify enough of its inputs? Exit code 0 yes, 1 no, 2 not known, 3 cannot run."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ...models.datasets import DataSet, open_dataset
from ...models.files import check_file
from ..answering.fields import parse_texts
from ..answering.schemas import CertifyFields
from ..backends import open_backend
from ..core import Gate, GateVerdict
from ..errors import CertifyError, DataError
from ..research.certifiers import LocalCertifier, RemoteCertifier, RowCertifier
from ..research.crops import center_cropped, marked_as_cropped
from ..research.dataset_run import run_id
from ..research.gate_policy import GatePolicy, read_policy
from ..research.gate_report import GateReport
from ..research.gate_run import ORDER, Drawn, draw_images, requirements, run_gate
from ..research.junit import Case, write_junit
from ..research.run_notes import RunNotes
from ..research.tables import facts_path, load_facts, open_table, save_facts
from ..settings import load_settings
from .options import (
    BackendOption,
    BundleOption,
    DataArgument,
    KeyFileOption,
    PartOption,
    ResizeOption,
    UrlOption,
    given,
    parse_resize,
    read_key,
    with_request_options,
)
from .progress import Live

__all__ = ("gate",)

CODES = {GateVerdict.PASS: 0, GateVerdict.FAIL: 1, GateVerdict.UNDECIDED: 2}
CANNOT_RUN = 3
SUITE = "certify gate"


class _GateCommand(TyperCommand):
    """A wrong option is no verdict: elsewhere it ends a command with 2, which is "undecided" here."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().make_context(*args, **kwargs)
        except Exception as error:
            if getattr(error, "exit_code", 0) == 2:
                error.exit_code = CANNOT_RUN  # type: ignore[attr-defined]
            raise


@dataclass(frozen=True, kw_only=True)
class _Order:
    data: DataSet  # all of it
    crop: bool
    policy: GatePolicy
    texts: Mapping[str, str]
    out: Path
    seed: int
    jobs: int


@with_request_options
def gate(
    name: DataArgument,
    radius: Annotated[float | None, typer.Option(help="At which inputs are to be certified, in norm's units.")] = None,
    at_least: Annotated[float | None, typer.Option(help="Share of all inputs, in (0, 1).")] = None,
    confidence: Annotated[float | None, typer.Option(help="Of the verdict, in (0, 1) [0.95].")] = None,
    class_at_least: Annotated[float | None, typer.Option(help="Share of each class's inputs [not looked at].")] = None,
    policy: Annotated[Path | None, typer.Option(help="All of that in a YAML file (docs/gate.md).")] = None,
    max_images: Annotated[int | None, typer.Option(help="Draw no more than these [all].")] = None,
    *,
    part: PartOption = None,
    bundle: BundleOption = None,
    resize: ResizeOption = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the order, and of noise drawn here [random; a run that goes on keeps its own]."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Keep a row an image here; a gate cut off goes on from it.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit's XML here, for CI.")] = None,
    url: UrlOption = None,
    key_file: KeyFileOption = None,
    backend: BackendOption = None,
    jobs: Annotated[int, typer.Option(min=1, help="Images at once; those beyond the last that counts are lost.")] = 1,
    **fields: str | bool | None,
) -> None:
    """Are at least so many of the inputs like these certified at a radius? Stops as soon as it is known.

    Exit code 0: yes; 1: no; 2: these images cannot tell; 3: it could not run. Images are drawn in a random order,
    each file once. A wrong yes has the probability (1 - confidence) / 2, and so has a wrong no, over images and noise
    together, however early it stops.
    """
    began = time.monotonic()
    with _cannot_run(junit, began), contextlib.ExitStack() as stack:
        for path in filter(None, (out, junit)):
            check_file(path)
        options = {
            "radius": radius, "at_least": at_least, "confidence": confidence, "class_at_least": class_at_least,
            "max_images": max_images,
        }  # fmt: skip
        wanted = read_policy(policy, options)
        kept = out or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "gate.tsv"
        crop = parse_resize(resize) == "center-crop"
        whole = open_dataset(name, part=part)
        order = _Order(
            data=marked_as_cropped(whole) if crop else whole,
            crop=crop,
            policy=wanted,
            texts=_texts(fields, wanted.radius, resize is not None and not crop),
            out=kept,
            seed=_seed(seed, kept),
            jobs=jobs,
        )
        certifier = _here(order, backend, bundle) if url is None else _there(order, url, key_file, backend, bundle)
        report = asyncio.run(_gate(order, certifier))
        if junit is not None:
            write_junit(junit, SUITE, report.cases(), facts=report.properties(), seconds=time.monotonic() - began)
    typer.echo(report.line())
    raise typer.Exit(CODES[report.verdict])


@contextlib.contextmanager
def _cannot_run(junit: Path | None, began: float) -> Iterator[None]:
    """Whatever goes wrong is no verdict. A fault of ours is shown whole."""
    try:
        yield
        return
    except CertifyError as error:
        said = str(error)
        typer.echo(f"error: {said}", err=True)
    except KeyboardInterrupt:
        said = "interrupted"
        typer.echo(said, err=True)
    except Exception as error:
        said = repr(error)
        typer.echo(traceback.format_exc(), err=True)
    if junit is not None:
        with contextlib.suppress(CertifyError):
            case = Case(name="gate", passed=False, kind="cannot_run", said=said)
            write_junit(junit, SUITE, [case], facts={}, seconds=time.monotonic() - began)
    raise typer.Exit(CANNOT_RUN)


@contextlib.asynccontextmanager
async def _here(order: _Order, backend_name: str | None, bundle: str | None) -> AsyncIterator[RowCertifier]:
    settings = load_settings(backend=backend_name, bundle=bundle)
    fields = parse_texts({name: [text] for name, text in order.texts.items()})
    backend = open_backend(settings)
    await backend.open()
    try:
        yield LocalCertifier(backend, settings, fields, policy="best", seed=order.seed)
    finally:
        await backend.close()


@contextlib.asynccontextmanager
async def _there(
    order: _Order, url: str, key_file: Path | None, backend: str | None, bundle: str | None
) -> AsyncIterator[RowCertifier]:
    own = {"--backend": backend, "--bundle": bundle}
    if mixed := [flag for flag, value in own.items() if value is not None]:
        raise DataError(f"{', '.join(mixed)}: expected none beside --url, whose service has its own")
    async with RemoteCertifier.open(url, order.texts, key=read_key(key_file)) as certifier:
        yield certifier


async def _gate(order: _Order, opened: contextlib.AbstractAsyncContextManager[RowCertifier]) -> GateReport:
    contents = order.data.contents()
    drawn = draw_images(order.data, contents, seed=order.seed, most=order.policy.max_images)
    async with opened as certifier:
        labels = drawn.images.labels_in(certifier.classes)
        required = requirements(order.policy, labels, certifier.classes)
        facts: dict[str, object] = {
            "data": order.data.name,
            "split": order.data.split,
            "data_digest": order.data.digest(contents),
            **({"crop": "center"} if order.crop else {}),
            **certifier.facts(),
            "gate": {**vars(order.policy), "order": ORDER, "order_seed": order.seed},
        }
        alpha = float(str(facts["alpha"]))  # 0 where every sample is counted here
        machine = Gate(required, alpha=alpha, confidence=order.policy.confidence)
        notes = await _certify(order, drawn, certifier, machine, facts)
    report = GateReport(
        policy=order.policy,
        verdict=machine.verdict,
        standings=machine.standings(),
        classes=certifier.classes,
        norm=str(facts.get("norm", facts.get("radius_norm", "l2"))),
        alpha=alpha,
        seed=order.seed,
        facts=facts,
        repeated=drawn.repeated,
    )
    found = {"run": run_id(facts), **facts, **notes.as_facts(), "repeated": drawn.repeated, "result": report.found()}
    save_facts(found, facts_path(order.out))
    return report


async def _certify(
    order: _Order, drawn: Drawn, certifier: RowCertifier, machine: Gate, facts: Mapping[str, object]
) -> RunNotes:
    """Until the gate is decided. What is not a verdict goes to stderr."""
    images = center_cropped(drawn.images, certifier.input_shape) if order.crop else drawn.images
    run = run_id(facts)
    notes = RunNotes(order.out, run, facts, images, certifier.classes)
    with open_table(order.out, run, facts, notes.as_facts()) as table, Live(len(images), table.done) as live:

        def on_invalid(idx: int, wrong: str) -> None:
            live.say(f"image {idx}: {wrong}")
            notes.add(idx, wrong)

        await run_gate(
            images, certifier, table, machine, run=run, jobs=order.jobs, on_row=live.add, on_invalid=on_invalid
        )
    if drawn.repeated:
        typer.echo(f"files left out, each with the bytes of another: {drawn.repeated}", err=True)
    for line in notes.lines():
        typer.echo(line, err=True)
    return notes


def _texts(fields: Mapping[str, str | bool | None], radius: float, resize: bool) -> dict[str, str]:
    """The request's fields. alpha is always said: the gate's bound rests on it, whatever a service's default is."""
    default = repr(CertifyFields.model_fields["alpha"].default)
    return given({**fields, "radius": repr(radius), "alpha": fields["alpha"] or default, "resize": resize})


def _seed(seed: int | None, out: Path) -> int:
    """As given, or the one that the gate was begun with, or a random one."""
    if seed is not None:
        return seed
    if facts_path(out).exists():
        kept = load_facts(facts_path(out)).get("gate")
        if isinstance(kept, dict) and type(kept.get("order_seed")) is int:
            return int(kept["order_seed"])
    return secrets.randbits(63)


gate.command_class = _GateCommand  # type: ignore[attr-defined]
