"""`certify image`: the HTTP service's steps in this process, image by image, or batches of them to a service."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..answering.certify import certify
from ..answering.fields import parse_texts
from ..answering.schemas import CertifyAnswer, CertifyFields
from ..answering.seeds import key_from_number
from ..backends import open_backend
from ..backends.embedded import EmbeddedBackend
from ..client import AsyncClient, read_image
from ..errors import CertifyError, DeadlineExceeded, RequestError
from ..settings import Settings, load_settings
from .options import USAGE, BackendOption, BundleOption, KeyFileOption, UrlOption, given, read_key, with_request_options

__all__ = ("Reply", "image")

LONG = 5.0  # seconds: whoever waits no longer need not be told


@with_request_options
def image(
    paths: Annotated[list[Path], typer.Argument(help="PNG, JPEG or WebP files.", metavar="PATH...")],
    *,
    seed: Annotated[int | None, typer.Option(help="Noise of an earlier run, whose output names it [random].")] = None,
    url: UrlOption = None,
    key_file: KeyFileOption = None,
    backend: BackendOption = None,
    bundle: BundleOption = None,
    evidence: Annotated[bool, typer.Option("--evidence", help="With all that `certify verify` needs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for each image.")] = False,
    **fields: str | bool | None,
) -> None:
    """Certify image files, in this process or, with --url, by a running service.

    Exits with 1 when some image was refused; the others are answered all the same.
    """
    if url is not None and (seed is not None or backend is not None or bundle is not None):
        typer.echo("error: --seed, --backend and --bundle are the service's own; they do not go with --url", err=True)
        raise typer.Exit(USAGE)
    asked = given({**fields, "evidence": evidence})
    if url is not None:
        replies = _from_service(url, read_key(key_file), paths, asked)
    else:
        # The service's key is no business of this command: its noise comes from a number that is printed.
        number = secrets.randbits(63) if seed is None else seed
        replies = _from_here(load_settings(backend=backend, bundle=bundle), paths, asked, seed=number)
    if asyncio.run(_show(replies, as_json=as_json)):
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came of one file: an answer, or why there is none. `seed` is the number that brings the same noise again."""

    path: Path
    answer: CertifyAnswer | None = None
    error: Mapping[str, object] | None = None  # code, detail and hints
    seed: int | None = None

    def as_json(self) -> str:
        facts: dict[str, object] = {"path": str(self.path)}
        if self.seed is not None:
            facts["seed"] = self.seed
        facts |= {"error": self.error} if self.answer is None else self.answer.model_dump(mode="json")
        return json.dumps(facts)

    def as_text(self) -> str:
        """The same facts, a line each, and a table of stages."""
        lines = [str(self.path)]
        if self.answer is None:
            assert self.error is not None
            return "\n".join([*lines, *(f"  {name}: {value}" for name, value in self.error.items())])
        facts = self.answer.model_dump(mode="json")
        stages = facts.pop("stages")
        if self.seed is not None:
            facts["seed"] = self.seed
        lines += [f"  {name}: {_text(value)}" for name, value in facts.items()]
        lines += [f"  stage {_text(stage)}" for stage in stages]
        return "\n".join(lines)


async def _show(replies: AsyncIterator[Reply], *, as_json: bool) -> int:
    """Print each reply as it comes; how many were refusals."""
    refused = 0
    async for reply in replies:
        refused += reply.answer is None
        typer.echo(reply.as_json() if as_json else reply.as_text())
    return refused


async def _from_here(
    settings: Settings, paths: list[Path], texts: Mapping[str, str], *, seed: int
) -> AsyncIterator[Reply]:
    """Certify each file in this process, with noise derived from `seed`."""
    fields = parse_texts({name: [text] for name, text in texts.items()})
    key = key_from_number(seed)
    backend = open_backend(settings)
    await backend.open()
    try:
        if isinstance(backend, EmbeddedBackend):
            _say_how_long(fields, backend.draws_a_second())
        for path in paths:
            yield await _reply(path, lambda data: certify(data, fields, backend, settings, key), seed=seed)
    finally:
        await backend.close()


def _say_how_long(fields: CertifyFields, rate: float | None) -> None:
    """On stderr, where it may take long: whoever asks can still give it up, or ask for less."""
    longest = 0.0 if rate is None else fields.samples / rate
    if fields.deadline_ms is not None:
        longest = min(longest, fields.deadline_ms / 1000)
    if longest > LONG:
        typer.echo(
            f"each image: up to {fields.samples} draws, {rate:.3g} a second here: {_duration(longest)} at most, less "
            "where the answer is clear sooner; --samples and --deadline-ms bound it",
            err=True,
        )


def _duration(seconds: float) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {seconds:.0f} seconds"


async def _from_service(url: str, key: str | None, paths: list[Path], texts: Mapping[str, Any]) -> AsyncIterator[Reply]:
    """Have the files certified by the service at `url`, in batches; replies come in the order of `paths`.

    Raises BackendUnavailable when it cannot be reached.
    """
    there: dict[int, Reply] = {}
    following = 0
    async with AsyncClient(url, key=key) as client:
        try:
            async with aclosing(client.certify_many(paths, **texts)) as replies:
                async for came in replies:
                    path = paths[came.index]
                    there[came.index] = (
                        Reply(path=path, answer=came.answer) if came.answer else _refused(path, came.error)
                    )
                    while following in there:
                        yield there.pop(following)
                        following += 1
        except RequestError as error:  # what is wrong with the fields is so for every file
            for index in range(following, len(paths)):
                yield there[index] if index in there else _refused(paths[index], error)


async def _reply(path: Path, certify_it: Callable[[bytes], Awaitable[CertifyAnswer]], *, seed: int) -> Reply:
    """What is wrong with one file is that file's reply; other errors end the command."""
    try:
        return Reply(path=path, answer=await certify_it(read_image(path)), seed=seed)
    except CertifyError as error:
        return _refused(path, error)


def _refused(path: Path, error: CertifyError | None) -> Reply:
    """What is wrong with one file. Raises any other error."""
    if isinstance(error, RequestError):
        return Reply(path=path, error={"code": error.code, "detail": error.detail, **error.extra})
    if isinstance(error, DeadlineExceeded):
        return Reply(path=path, error={"code": "deadline_exceeded", "detail": str(error)})
    assert error is not None
    raise error


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{name} {_text(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(_text(part) for part in value)
    return "none" if value is None else str(value)
