"""What the subcommands share: options derived from a model's fields, errors as text, lists of numbers."""

from __future__ import annotations

import contextlib
import inspect
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from ...models.bundle import Final
from ...models.files import read_text
from ...models.noises import NOISES, NoiseKind
from ..answering.schemas import CertifyFields
from ..errors import CertifyError, DataError, SettingsError
from ..settings import ENV_PREFIX, Settings

__all__ = (
    "DATA_HELP",
    "MARKUP",
    "TOGETHER",
    "USAGE",
    "BackendOption",
    "BundleOption",
    "DataArgument",
    "JobsOption",
    "KeyFileOption",
    "LimitOption",
    "PartOption",
    "ResizeOption",
    "SeedOption",
    "ShardOption",
    "UrlOption",
    "errors_as_text",
    "given",
    "numbers",
    "parse_final",
    "parse_noise",
    "parse_resize",
    "read_key",
    "read_secret",
    "with_request_options",
    "with_settings_options",
)

# sysexits.h: a wrong setting or option, as typer itself exits for a wrong option.
USAGE = 2
# Of help texts. rich's own would take [all] for a tag, and print nothing.
MARKUP: Literal["markdown"] = "markdown"
# Of the commands that read labelled images.
DATA_HELP = (
    "digits; fashion; a folder of classes, of CIFAR's, MNIST's or CIFAR-10-C's files, of Parquet shards or with "
    "labels.csv; or an .npz, .npy, .parquet or .csv file."
)
PART_HELP = (
    "Of data that has parts: train, test, ... [test; of digits train, tune or held_out: held_out]. Of CIFAR-10-C: fog, "
    "or fog:3 for one severity."
)
RESIZES = ("squash", "center-crop")
RESIZE_HELP = (
    f"{CertifyFields.model_fields['resize'].description}: squash (both sides to the size, as a request's resize) or "
    "center-crop (the shorter side to the size, then the centre)."
)
# Of a service: as many as the client sends in one request.
TOGETHER = 32
# Options of several commands.
DataArgument = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)]
PartOption = Annotated[str | None, typer.Option(help=PART_HELP)]
BundleOption = Annotated[str | None, typer.Option(help="Name or path [CERTIFY_BUNDLE, or digits].")]
BackendOption = Annotated[str | None, typer.Option(help="embedded, triton or fake [CERTIFY_BACKEND, or embedded].")]
ResizeOption = Annotated[str | None, typer.Option(help=RESIZE_HELP, metavar="|".join(RESIZES))]
LimitOption = Annotated[int | None, typer.Option(help="Only the first so many images.")]
ShardOption = Annotated[str, typer.Option(help="i/n: every n-th image, beginning with the i-th; all with one --seed.")]
SeedOption = Annotated[int | None, typer.Option(help="Of the noise [random; a run that goes on keeps its own].")]
UrlOption = Annotated[str | None, typer.Option(help="Ask the service at this address instead of working here.")]
KeyFileOption = Annotated[Path | None, typer.Option(help="With --url: a file that holds the key to ask with.")]
JobsOption = Annotated[
    int | None,
    typer.Option(min=1, help=f"Images at once; more blur each row's time [1; with --url {TOGETHER}, in batches]."),
]
# Only a service has a key to sign with; evidence is each command's own matter.
_NO_OPTION = {"signed": None, "evidence": None}
# What a value looks like, for --help. One option may name several: 0.25,0.5.
_METAVARS = {float: "NUMBER", int: "INTEGER", str: "TEXT"}

Command = Callable[..., None]


def with_settings_options(command: Command) -> Command:
    """Give `command(**flags)` an option for each field of Settings, so that none can be forgotten.

    Values stay text: Settings reads them exactly as it reads the environment.
    """
    return _with(command, [_setting(name, field) for name, field in Settings.model_fields.items()])


def with_request_options(command: Command) -> Command:
    """Give `command(..., **fields)` an option for each field of a request, so that none can be forgotten.

    A field that the command has a parameter of its own for is left to it. Values stay text, or a bool for a flag: they
    are read as a form's fields are.
    """
    own = dict(inspect.signature(command).parameters)
    fields = CertifyFields.model_fields.items()
    return _with(command, [_field(name, field) for name, field in fields if name not in own | _NO_OPTION])


def given(fields: Mapping[str, str | bool | None]) -> dict[str, str]:
    """The request's options that were used, as a form's text."""
    return {
        name: value if isinstance(value, str) else "true"
        for name, value in fields.items()
        if isinstance(value, str) or value
    }


@contextlib.contextmanager
def errors_as_text() -> Iterator[None]:
    """An error of ours ends the command with its message: code 2 for a setting, 1 for the rest."""
    try:
        yield
    except CertifyError as exc:
        typer.echo(f"error: {exc}", err=True)
        raise typer.Exit(USAGE if isinstance(exc, SettingsError) else 1) from None


def numbers(name: str, text: str) -> list[float]:
    """`0.25,0.5` -> [0.25, 0.5], each finite and at least 0. Raises DataError."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise DataError(f"{name}: expected numbers with commas between, got {text!r}") from None
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise DataError(f"{name}: expected finite numbers >= 0, got {text!r}")
    return values


def read_key(path: Path | None) -> str | None:
    """The API key that a file holds; white space around it is not of it. Raises DataError."""
    if path is None:
        return None
    try:
        key = read_text(path).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"key-file: expected a text file: {error}") from error
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise DataError(f"key-file: expected one word of printable ASCII in {path}, got something else")
    return key


def read_secret(path: Path) -> bytes:
    """A seed key as CERTIFY_SEED_KEY has it; white space around it is not of it. Raises DataError."""
    try:
        return read_text(path).strip().encode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"seed-key-file: expected a text file: {error}") from error


def parse_final(text: str | None) -> Final | None:
    """Raises DataError."""
    match text:
        case None | "plurality" | "threshold":
            return text
    raise DataError(f"final: expected plurality or threshold, got {text!r}")


def parse_noise(text: str | None, sigmas: int) -> tuple[NoiseKind, ...]:
    """`laplace` -> that at each of so many sigmas, `gaussian,laplace` -> as it stands. Raises DataError."""
    if text is None:
        return ()
    kinds = tuple(kind for word in text.split(",") for kind in NOISES if kind == word.strip())
    if len(kinds) != text.count(",") + 1 or len(kinds) not in (1, sigmas):
        raise DataError(f"noise: expected one of {', '.join(NOISES)}, or {sigmas} with commas between, got {text!r}")
    kinds = kinds * sigmas if len(kinds) == 1 else kinds
    return () if set(kinds) == {"gaussian"} else kinds  # the default, however it is said


def parse_resize(text: str | None) -> str | None:
    """One of RESIZES, or None. Raises DataError."""
    if text is None or text in RESIZES:
        return text
    raise DataError(f"resize: expected {' or '.join(RESIZES)}, got {text!r}")


def _with(command: Command, options: Sequence[inspect.Parameter]) -> Command:
    """Put `options` where the command's own keyword-only ones begin, in place of its `**`."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    first = [parameter for parameter in own if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    rest = [parameter for parameter in own if parameter.kind is parameter.KEYWORD_ONLY]
    command.__signature__ = inspect.Signature([*first, *options, *rest])  # type: ignore[attr-defined]
    return command


def _option(name: str, annotation: object, default: object, *names: str, **facts: Any) -> inspect.Parameter:
    declared = Annotated[annotation, typer.Option(f"--{name.replace('_', '-')}", *names, show_default=False, **facts)]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=declared)


def _setting(name: str, field: FieldInfo) -> inspect.Parameter:
    default = "unset" if field.default in (None, "") else str(field.default)
    # http_host and http_port: what everyone types first.
    short = [f"--{name.removeprefix('http_')}"] if name in ("http_host", "http_port") else []
    help_text = f"{field.description}. [{ENV_PREFIX}{name.upper()}; default: {default}]"
    return _option(name, str | None, None, *short, help=help_text)


def _field(name: str, field: FieldInfo) -> inspect.Parameter:
    """A field whose default is None says in its description what that means."""
    text = field.description
    if field.annotation is bool:
        return _option(name, bool, False, help=f"{text}.")
    default = "" if field.default is None else f" [default: {field.default}]"
    return _option(name, str | None, None, help=f"{text}.{default}", metavar=_metavar(field.annotation))


def _metavar(annotation: object) -> str:
    """float | None -> NUMBER, list[float] -> NUMBER,..., Literal["l2", "linf"] -> l2|linf."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _metavar(inner[0])
    if origin in (Union, types.UnionType):
        return _metavar(next(argument for argument in inner if argument is not type(None)))
    if origin is Literal:
        return "|".join(map(str, inner))
    if origin is list:
        return f"{_metavar(inner[0])},..."
    assert isinstance(annotation, type)
    return _METAVARS[annotation]
