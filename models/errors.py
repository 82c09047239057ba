"""What can go wrong with bundles and data, as exceptions. service/errors.py adds its own and draws the tree."""

from __future__ import annotations

__all__ = ("BundleError", "CertifyError", "DataError", "RemoteError")


class CertifyError(Exception):
    """Base of every error that this project raises on purpose."""


class DataError(CertifyError):
    """A data set is missing or not of its form; the message names the file and the field."""


class BundleError(CertifyError):
    """A bundle is incomplete, altered or not of this format; the message names the file and the field."""


class RemoteError(CertifyError):
    """A classifier over the network cannot be asked, or answered what is no answer; the message names its address."""
