"""The statistics and the adaptive sampler: sans-IO, numpy and scipy.special only."""

from service.core.bounds import clopper_pearson_lower, clopper_pearson_upper, floor_radius
from service.core.certificate import Cascade, Certificate, CertificateReason, Final, cascade_certificate
from service.core.certifier import Certifier
from service.core.limits import max_radius, min_samples
from service.core.replay import PilotPlan, plan_from_pilot
from service.core.results import ProtocolError, Query, Reason, Result, StageOutcome, StageResult

__all__ = (
    "Cascade",
    "Certificate",
    "CertificateReason",
    "Certifier",
    "Final",
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
