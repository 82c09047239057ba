"""The statistics and the adaptive sampler: sans-IO, numpy and scipy.special only."""

from .bounds import clopper_pearson_lower, clopper_pearson_upper, floor_radius
from .certificate import Cascade, Certificate, cascade_certificate
from .certifier import Certifier
from .limits import max_radius, min_samples
from .reasons import Reason
from .replay import PilotPlan, plan_from_pilot
from .results import ProtocolError, Query, Result, StageOutcome, StageResult

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
