"""`certify serve`. Its --help alone is enough to run the service."""

from __future__ import annotations

import logging

import typer

from ..errors import CertifyError, SettingsError
from ..settings import load_settings
from .options import USAGE, with_settings_options

__all__ = ("serve",)


@with_settings_options
def serve(**flags: str | None) -> None:
    """Serve the page at /, POST /v1/certify, GET /info, /livez, /readyz, /metrics and /docs until SIGTERM.

    Every option can also be given in the environment, by the name in brackets; a flag wins.
    """
    from ..http import log, server  # uvicorn and the web framework: not for --help

    settings = load_settings(**flags)
    log.configure(settings.log_level)
    try:
        started = server.serve(settings)
    except CertifyError as exc:
        logging.getLogger(__name__).error("cannot serve", extra={"facts": {"error": str(exc)}})
        raise typer.Exit(USAGE if isinstance(exc, SettingsError) else 1) from None
    if not started:
        raise typer.Exit(1)
