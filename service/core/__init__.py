"""The statistics and the adaptive sampler: sans-IO, numpy and scipy.special only.

Names are loaded when they are first used: who wants Reason alone (the client, the command's help) pays for no SciPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bounds import clopper_pearson_lower, clopper_pearson_upper, floor_radius
    from .certificate import Cascade, Certificate, cascade_certificate
    from .certifier import Certifier
    from .limits import max_radius, min_samples
    from .reasons import Reason
    from .replay import PilotPlan, plan_from_pilot
    from .results import ProtocolError, Query, Result, StageOutcome, StageResult

_HOMES = {
    "bounds": ("clopper_pearson_lower", "clopper_pearson_upper", "floor_radius"),
    "certificate": ("Cascade", "Certificate", "cascade_certificate"),
    "certifier": ("Certifier",),
    "limits": ("max_radius", "min_samples"),
    "reasons": ("Reason",),
    "replay": ("PilotPlan", "plan_from_pilot"),
    "results": ("ProtocolError", "Query", "Result", "StageOutcome", "StageResult"),
}

__all__ = (
    "Cascade",
    "Certificate",
    "Certifier",
    "PilotPlan",
    "ProtocolError",
    "Query",
    "Reason",
    "Result",
    "StageOutcome",
    "StageResult",
    "cascade_certificate",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "floor_radius",
    "max_radius",
    "min_samples",
    "plan_from_pilot",
)


def __getattr__(name: str) -> object:
    """Import a name's module at its first use (PEP 562)."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
