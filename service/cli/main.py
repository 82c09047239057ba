"""The `certify` command: its subcommands' names. Each is loaded when it is asked for, all of them for --help."""

from __future__ import annotations

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
