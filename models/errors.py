"""What can go wrong with bundles and data, as exceptions. service/errors.py adds its own and draws the tree."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ("BundleError", "CertifyError", "DataError", "RemoteError")


class CertifyError(Exception):
    """Base of every error that this project raises on purpose.

    One that a client made of a service's answer says what that says beside its message; in any other all is empty.
    """

    status: int | None = None  # of HTTP
    code: str | None = None  # stable: GET /docs lists them
    field: str | None = None  # of the request: the one that is wrong
    hints: Mapping[str, object] = MappingProxyType({})  # as max_radius: what would be right
    retry_after_seconds: float | None = None
    request_id: str | None = None  # as the service logs it


class DataError(CertifyError):
    """A data set is missing or not of its form; the message names the file and the field."""


class BundleError(CertifyError):
    """A bundle is incomplete, altered or not of this format; the message names the file and the field."""


class RemoteError(CertifyError):
    """A classifier over the network cannot be asked, or answered what is no answer; the message names its address."""
