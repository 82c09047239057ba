"""Why an answer is what it is: one vocabulary for certificates, answers, HTTP and metrics."""

from __future__ import annotations

from enum import StrEnum

__all__ = ("Reason",)


class Reason(StrEnum):
    CERTIFIED = "certified"
    # Of an abstention, as a caller reads it. A diagnosis: pilots may speak in it.
    DEADLINE = "deadline"  # it came after some looks, and nothing is certified; only the caller keeps the time
    RIVAL_AT_LARGER_SIGMA = "rival_at_larger_sigma"  # a scale is confident; a coarser one's most voted class is another
    NO_STAGE_CONFIDENT = "no_stage_confident"  # ended as hopeless with no scale above its threshold
    UNDECIDED = "undecided"  # these samples cannot tell; of a certificate: no class leads at the plurality scale
    # Of a certificate that certifies nothing, from its bounds alone.
    BLOCKED = "blocked"  # some level is confident, but every such path is closed by a coarser level
    NO_LEVEL_CONFIDENT = "no_level_confident"  # no level's lower bound is above its threshold
    NO_DATA = "no_data"  # asked before the pilot was over
