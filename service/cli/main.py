"""The `certify` command: its subcommands' names. Each is loaded when it is asked for, all of them for --help."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from .options import MARKUP, errors_as_text

__all__ = ("app",)

# Name -> the module beside this one, and in it the function, or the group of commands.
_COMMANDS = {
    "serve": ("serve", "serve"),
    "image": ("image", "image"),
    "dataset": ("dataset", "dataset"),
    "audit": ("audit", "audit"),
    "gate": ("gate", "gate"),
    "curve": ("curve", "curve"),
    "tune": ("tune", "tune"),
    "verify": ("verify", "verify"),
    "reveal": ("verify", "reveal"),
    "keys": ("keys", "keys_app"),
    "bundles": ("pack", "bundles_app"),
    "train": ("train", "train"),
    "triton": ("triton", "triton"),
    "tune-runtime": ("tune_runtime", "tune_runtime_command"),
}
# Of a command that could not say what it found: elsewhere 1, which is a verdict here.
_UNSAID = {"gate": 3, "verify": 2}


class _Lazy(TyperGroup):
    """A group that imports a subcommand's module when it is asked for: `certify --version` need not load SciPy."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        offered = getattr(import_module(f".{module}", __package__), name)
        if isinstance(offered, typer.Typer):
            group = offered
        else:
            group = typer.Typer(add_completion=False, rich_markup_mode=MARKUP)
            group.command(cmd_name, cls=getattr(offered, "command_class", None))(errors_as_text()(offered))
        command = typer.main.get_command(group)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (OSError, MemoryError) as error:
            _say(error)
            raise typer.Exit(_UNSAID.get(ctx.invoked_subcommand, 1)) from None

    def main(self, *args: Any, **kwargs: Any) -> Any:
        _keep_standard_descriptors()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A file's name may be no UTF-8, and a class's name not of the terminal's characters.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # of --help
            _say(error)
            sys.exit(1)


def _keep_standard_descriptors() -> None:
    """Where one is closed (`2>&-`), a connection would get its number, and libuv ends a process that closes it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the least that is free, this one


def _say(error: OSError | MemoryError) -> None:
    """What no command foresees: a full disk behind standard output, no memory. Of a reader that left, nothing."""
    if isinstance(error, MemoryError):
        said = "expected enough memory for this, and there is not"
    else:
        said = f"{error.filename or 'standard output'}: {error.strerror or error}"
    with contextlib.suppress(OSError):
        if not isinstance(error, BrokenPipeError):
            typer.echo(f"error: {said}", err=True)
    # What is left in the buffer would fail again when Python ends, and change the exit code.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    name="certify",
    cls=_Lazy,
    help="How far can this image be changed before the answer changes?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=MARKUP,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
