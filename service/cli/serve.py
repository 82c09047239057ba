"""The `certify` command. `certify serve --help` alone is enough to run the service."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from .. import __version__
from ..errors import CertifyError, SettingsError
from ..http import log
from ..settings import ENV_PREFIX, Settings, load_settings
from . import dataset as commands
from . import image as console
from . import pack as packing
from . import tune_runtime

__all__ = ("app",)

app = typer.Typer(
    name="certify",
    help="How far can this image be changed before the answer changes?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# sysexits.h: a wrong setting or option, as typer itself exits for a wrong option.
_USAGE = 2


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _flag(name: str, field: FieldInfo) -> inspect.Parameter:
    """`--<name>` for a setting. Values stay text: Settings reads them exactly as it reads the environment."""
    default = "unset" if field.default is None else str(field.default)
    names = [f"--{name.replace('_', '-')}"]
    if name in ("http_host", "http_port"):  # what everyone types first
        names.append(f"--{name.removeprefix('http_')}")
    option = typer.Option(
        *names, help=f"{field.description}. [{ENV_PREFIX}{name.upper()}; default: {default}]", show_default=False
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


def _with_settings_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command(**flags)` one flag for each field of Settings, so that none can be forgotten."""
    parameters = [_flag(name, field) for name, field in Settings.model_fields.items()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _settings(**flags: Any) -> Settings:
    try:
        return load_settings(**flags)
    except SettingsError as exc:
        typer.echo(f"error: {exc}", err=True)
        raise typer.Exit(_USAGE) from None


@app.command()
@_with_settings_flags
def serve(**flags: str | None) -> None:
    """Serve POST /certify, GET /info, /livez, /readyz, /metrics and /docs until SIGTERM.

    Every option can also be given in the environment, by the name in brackets; a flag wins.
    """
    from ..http import server  # uvicorn and the web framework: only this command needs them

    settings = _settings(**flags)
    log.configure(settings.log_level)
    try:
        started = server.serve(settings)
    except CertifyError as exc:
        logging.getLogger(__name__).error("cannot serve", extra={"facts": {"error": str(exc)}})
        raise typer.Exit(_USAGE if isinstance(exc, SettingsError) else 1) from None
    if not started:
        raise typer.Exit(1)


@app.command()
def image(
    paths: Annotated[list[Path], typer.Argument(help="PNG, JPEG or WebP files.", metavar="PATH...")],
    radius: Annotated[str | None, typer.Option(help="Requested radius; without one, as far as possible.")] = None,
    norm: Annotated[str | None, typer.Option(help="Of the radius: l2 (the default) or linf.")] = None,
    samples: Annotated[str | None, typer.Option(help="Most noise samples for each image [10000].")] = None,
    alpha: Annotated[str | None, typer.Option(help="Probability that a certificate is wrong [0.001].")] = None,
    threshold: Annotated[str | None, typer.Option(help="One, or one per sigma: 0.5,0.6 [the bundle's].")] = None,
    final: Annotated[str | None, typer.Option(help="plurality or threshold [the bundle's].")] = None,
    sigmas: Annotated[str | None, typer.Option(help="Some of the bundle's: 0.25,0.5 [all].")] = None,
    deadline_ms: Annotated[str | None, typer.Option(help="Answer by then with what has been proved.")] = None,
    resize: Annotated[bool, typer.Option("--resize", help="Resize an image of another size.")] = False,
    seed: Annotated[int | None, typer.Option(help="Noise of an earlier run, whose output names it [random].")] = None,
    url: Annotated[str | None, typer.Option(help="Ask the service at this address instead of working here.")] = None,
    backend: Annotated[str | None, typer.Option(help="embedded or fake [CERTIFY_BACKEND, or embedded].")] = None,
    bundle: Annotated[str | None, typer.Option(help="Name or path [CERTIFY_BUNDLE, or digits].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for each image.")] = False,
) -> None:
    """Certify image files, in this process or, with --url, by a running service.

    Exits with 1 when some image was refused; the others are answered all the same.
    """
    if url is not None and (seed is not None or backend is not None or bundle is not None):
        typer.echo("error: --seed, --backend and --bundle are the service's own; they do not go with --url", err=True)
        raise typer.Exit(_USAGE)
    texts = {
        "radius": radius,
        "norm": norm,
        "samples": samples,
        "alpha": alpha,
        "threshold": threshold,
        "final": final,
        "sigmas": sigmas,
        "deadline_ms": deadline_ms,
        "resize": "true" if resize else None,
    }
    given = {name: text for name, text in texts.items() if text is not None}
    if url is not None:
        replies = console.ask(url, paths, given)
    else:
        # The service's key is no business of this command: its noise comes from a number that is printed.
        number = secrets.randbits(63) if seed is None else seed
        replies = console.certify_here(_settings(backend=backend, bundle=bundle), paths, given, seed=number)
    with _errors_as_text():
        refused = asyncio.run(_show(replies, as_json=as_json))
    if refused:
        raise typer.Exit(1)


async def _show(replies: AsyncIterator[console.Reply], *, as_json: bool) -> int:
    """Print each reply as it comes; how many were refusals."""
    refused = 0
    async for reply in replies:
        refused += reply.answer is None
        typer.echo(reply.as_json() if as_json else reply.as_text())
    return refused


bundles_app = typer.Typer(help="List the shipped bundles, or make one.", invoke_without_command=True)
app.add_typer(bundles_app, name="bundles")


@bundles_app.callback()
def bundles(context: typer.Context) -> None:
    """List the shipped bundles: name, version, classes, input shape, sigmas, digest. Or make one: pack."""
    from ...models import bundle

    if context.invoked_subcommand is not None:
        return
    for name in bundle.list_bundles():
        manifest = bundle.load_manifest(bundle.find_bundle(name))
        shape = "x".join(map(str, manifest.input_shape))
        sigmas = ",".join(format(sigma, "g") for sigma in manifest.sigmas)
        typer.echo(
            f"{name}  version {manifest.version}  {len(manifest.classes)} classes  input {shape}  sigmas {sigmas}  "
            f"{manifest.digest}"
        )


@bundles_app.command("pack")
def pack(
    denoiser: Annotated[Path, typer.Option(help="Folder of a diffusers UNet2DModel (save_pretrained).")],
    scheduler: Annotated[Path, typer.Option(help="Folder of its diffusers scheduler (save_pretrained).")],
    classifier: Annotated[str, typer.Option(help="Folder in timm's hub layout, or a timm name.")],
    sigmas: Annotated[str, typer.Option(help="Scales, in units of [0, 1] pixels: 0.25,0.5,1.0.")],
    out: Annotated[Path, typer.Option(help="The bundle's folder.")],
    name: Annotated[str | None, typer.Option(help="Of the bundle [the folder's].")] = None,
    version: Annotated[str, typer.Option(help="Of the bundle.")] = "1",
    classes: Annotated[str | None, typer.Option(help="With commas between [the classifier's, or 0,1,...].")] = None,
    threshold: Annotated[str | None, typer.Option(help="One per sigma: 0.5,0.5,0.9 [0.5 each].")] = None,
    final: Annotated[str, typer.Option(help="plurality or threshold.")] = "plurality",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16, in which it runs.")] = "float32",
    images: Annotated[str | None, typer.Option(help="Try it on: digits, an .npz, a folder of classes.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many images.")] = 64,
) -> None:
    """Make a bundle of a diffusers denoiser and a timm classifier, check it, and try it on images."""
    with _errors_as_text():
        packing.pack_bundle(
            denoiser=denoiser, scheduler=scheduler, classifier=classifier, sigmas=sigmas, out=out, name=name,
            version=version, classes=classes, thresholds=threshold, final=final, dtype=dtype,
            images=images, limit=limit,
        )  # fmt: skip


def _add(name: str, command: Callable[..., None]) -> None:
    """Register it; its module is loaded already, torch and matplotlib are not."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        with _errors_as_text():
            command(*args, **kwargs)

    app.command(name)(run)


for _name, _command in (
    ("dataset", commands.dataset_command),
    ("curve", commands.curve_command),
    ("tune", commands.tune_command),
    ("tune-runtime", tune_runtime.tune_runtime_command),
):
    _add(_name, _command)


@contextlib.contextmanager
def _errors_as_text() -> Iterator[None]:
    try:
        yield
    except SettingsError as exc:
        typer.echo(f"error: {exc}", err=True)
        raise typer.Exit(_USAGE) from None
    except CertifyError as exc:
        typer.echo(f"error: {exc}", err=True)
        raise typer.Exit(1) from None
