"""`certify bundles convert`: checkpoints of other repositories, as the folders of diffusers that `pack` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import BackendUnavailable
from .options import MARKUP, errors_as_text

__all__ = ("convert", "convert_app", "openai")

convert_app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=MARKUP, pretty_exceptions_enable=False
)


@convert_app.callback()
def convert() -> None:
    """Write a checkpoint of another repository as the folders that `certify bundles pack --denoiser` takes."""


@convert_app.command()
@errors_as_text()
def openai(
    checkpoint: Annotated[Path, typer.Argument(help="The .pt file, a state dict.")],
    flags: Annotated[
        str, typer.Option(help="A JSON file of the scripts' flags, or themselves: '--image_size 32 ...'.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write: denoiser/ and scheduler/.")],
    family: Annotated[str | None, typer.Option(help="improved or guided [told by the flags].")] = None,
) -> None:
    """A checkpoint of openai/improved-diffusion or openai/guided-diffusion.

    Nothing is written when something is wrong.
    """
    try:
        from ...models.openai.convert import convert as write
    except ImportError as error:
        raise BackendUnavailable(
            f"converting a network needs torch and diffusers (pip install 'certify[torch]'): {error}"
        ) from error
    write(checkpoint, out, flags=flags, family=family)
    typer.echo(f"{out}: next: certify bundles pack --denoiser {out} --classifier ...")
