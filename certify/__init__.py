"""How far can this image be changed before the answer changes? The public names, loaded when they are first used.

    from certify import Certifier       # the statistics alone: see its docstring, and examples/
    from certify import Client          # a running service, asked: see its docstring
    certify serve                       # the service: see `certify --help`

`certify.service` and `certify.models` are the folders of those names beside this one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from certify.service import __version__

if TYPE_CHECKING:
    from certify.service.answering.preview_schemas import Preview
    from certify.service.answering.progress_schemas import Progress
    from certify.service.answering.schemas import CertifyAnswer
    from certify.service.client import AsyncClient, Client, Reply, Retries, SignedCertificate
    from certify.service.core import (
        Cascade,
        Certificate,
        Certifier,
        cascade_certificate,
        clopper_pearson_lower,
        clopper_pearson_upper,
    )
    from certify.service.errors import (
        BackendUnavailable,
        BudgetSpent,
        CertifyError,
        DeadlineExceeded,
        Draining,
        OverloadError,
        QueueFull,
        RequestError,
        Unauthorized,
    )

_HOMES = {
    "AsyncClient": "certify.service.client",
    "BackendUnavailable": "certify.service.errors",
    "BudgetSpent": "certify.service.errors",
    "Cascade": "certify.service.core",
    "Certificate": "certify.service.core",
    "Certifier": "certify.service.core",
    "CertifyAnswer": "certify.service.answering.schemas",
    "CertifyError": "certify.service.errors",
    "Client": "certify.service.client",
    "DeadlineExceeded": "certify.service.errors",
    "Draining": "certify.service.errors",
    "OverloadError": "certify.service.errors",
    "Preview": "certify.service.answering.preview_schemas",
    "Progress": "certify.service.answering.progress_schemas",
    "QueueFull": "certify.service.errors",
    "Reply": "certify.service.client",
    "RequestError": "certify.service.errors",
    "Retries": "certify.service.client",
    "SignedCertificate": "certify.service.client",
    "Unauthorized": "certify.service.errors",
    "cascade_certificate": "certify.service.core",
    "clopper_pearson_lower": "certify.service.core",
    "clopper_pearson_upper": "certify.service.core",
}

__all__ = (
    "AsyncClient",
    "BackendUnavailable",
    "BudgetSpent",
    "Cascade",
    "Certificate",
    "Certifier",
    "CertifyAnswer",
    "CertifyError",
    "Client",
    "DeadlineExceeded",
    "Draining",
    "OverloadError",
    "Preview",
    "Progress",
    "QueueFull",
    "Reply",
    "RequestError",
    "Retries",
    "SignedCertificate",
    "Unauthorized",
    "__version__",
    "cascade_certificate",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
)


def __getattr__(name: str) -> object:
    """Import a public name's module at its first use: `import certify` alone costs nothing (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'certify' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
