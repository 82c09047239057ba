"""The statistics and the adaptive sampler: sans-IO, numpy and scipy.special only.

Names are loaded at their first use: code that needs only the words of an answer (`core.reasons`) loads no SciPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bounds import clopper_pearson_lower, clopper_pearson_upper, floor_radius
    from .certificate import Cascade, Certificate, cascade_certificate
    from .certifier import Certifier
    from .counted import Counter, counted_certificate, counted_limit, whole_counts
    from .gate import Gate, GateVerdict, Requirement, Standing
    from .laws import Noise
    from .limits import max_radius, min_samples, reachable
    from .population import Population, by_class, images_needed, interval, truly
    from .reasons import Reason
    from .replay import PilotPlan, plan_from_pilot
    from .results import ProtocolError, Query, Result, StageOutcome, StageResult
else:  # out of a type checker's sight: it would take any name for one of ours

    def __getattr__(name: str) -> object:
        """Import a public name's module at its first use (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


_HOMES = {
    "Cascade": "certificate",
    "Certificate": "certificate",
    "Certifier": "certifier",
    "Counter": "counted",
    "Gate": "gate",
    "GateVerdict": "gate",
    "Noise": "laws",
    "PilotPlan": "replay",
    "Population": "population",
    "ProtocolError": "results",
    "Query": "results",
    "Reason": "reasons",
    "Requirement": "gate",
    "Result": "results",
    "StageOutcome": "results",
    "StageResult": "results",
    "Standing": "gate",
    "by_class": "population",
    "cascade_certificate": "certificate",
    "clopper_pearson_lower": "bounds",
    "clopper_pearson_upper": "bounds",
    "counted_certificate": "counted",
    "counted_limit": "counted",
    "floor_radius": "bounds",
    "images_needed": "population",
    "interval": "population",
    "max_radius": "limits",
    "min_samples": "limits",
    "plan_from_pilot": "replay",
    "reachable": "limits",
    "truly": "population",
    "whole_counts": "counted",
}

__all__ = (
    "Cascade",
    "Certificate",
    "Certifier",
    "Counter",
    "Gate",
    "GateVerdict",
    "Noise",
    "PilotPlan",
    "Population",
    "ProtocolError",
    "Query",
    "Reason",
    "Requirement",
    "Result",
    "StageOutcome",
    "StageResult",
    "Standing",
    "by_class",
    "cascade_certificate",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "counted_certificate",
    "counted_limit",
    "floor_radius",
    "images_needed",
    "interval",
    "max_radius",
    "min_samples",
    "plan_from_pilot",
    "reachable",
    "truly",
    "whole_counts",
)
