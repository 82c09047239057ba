"""A running service, asked over HTTP."""

from __future__ import annotations

from .clients import AsyncClient, Client, Retries, read_image

__all__ = ("AsyncClient", "Client", "Retries", "read_image")
