"""`certify keys`: the keys that certificates are signed with."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from ..answering.signing import key_set, new_key, read_signer
from ..errors import DataError
from .options import MARKUP, errors_as_text

__all__ = ("keys_app", "new", "public")

keys_app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=MARKUP, pretty_exceptions_enable=False,
    help="Keys that certificates are signed with: make one, or show the public part.",
)  # fmt: skip


@keys_app.command()
@errors_as_text()
def new(
    out: Annotated[Path, typer.Option(help="Where to write it; a file that exists is not replaced.")],
    *,
    days: Annotated[int | None, typer.Option(help="How long it may sign, from today [for ever].", min=1)] = None,
) -> None:
    """Make an Ed25519 key, for CERTIFY_SIGNING_KEY_FILE."""
    text = new_key(not_after=None if days is None else _in_days(days))
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise DataError(f"{out}: expected a place for a new file, got: {error.strerror}") from None
    typer.echo(f"{out}: {read_signer(out).keys[0].id}")


def _in_days(days: int) -> date:
    """Raises DataError where calendars end: in the year 9999."""
    try:
        return datetime.now(UTC).date() + timedelta(days=days)
    except OverflowError:
        raise DataError(f"days: expected a day before the year 10000, got {str(days)[:20]} days from today") from None


@keys_app.command()
@errors_as_text()
def public(file: Annotated[Path, typer.Argument(help="A key file.")]) -> None:
    """Print the public keys of a key file: the JWK set that GET /v1/keys answers, and --key takes."""
    typer.echo(json.dumps(key_set(read_signer(file).keys), indent=2))
