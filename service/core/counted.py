"""A cascade whose every sample is counted: probabilities are exact, and alpha is 0 (docs/protocol.md, 2.4).

Counter has the certifier's face (next, observe, result), so that one loop drives both. It has no pilot, no look and no
choice to make: each level is asked for all of its samples, coarsest first, and nothing is said before the last of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

from .bounds import floor_radius
from .certificate import Cascade, Certificate
from .reasons import Reason
from .results import ProtocolError, Query, Result, StageResult, contribution

__all__ = ("Counter", "counted_certificate", "counted_limit", "whole_counts")

_GREY_STEPS = 255  # one of them moves at most one of a level's samples


def whole_counts(cascade: Cascade) -> tuple[int, ...]:
    """N of each level: how many samples it has in all. Raises ValueError unless each level's noise is splitting."""
    for kind, _ in cascade.noises:
        if kind != "splitting":
            raise ValueError(f"noise: expected splitting at each scale, whose samples can all be counted, got {kind}")
    return tuple(round(scale * _GREY_STEPS) for scale in cascade.scales)


def counted_certificate(cascade: Cascade, counts: Sequence[Sequence[int]]) -> tuple[int, Certificate]:
    """(label, what is proved of it) from (levels, classes) votes of *all* samples, level 0 the finest.

    Of the most voted class of each level, the one with the largest radius: at most one class has any (Theorem A).
    Float division is monotone, so that a count over N is above a threshold only where the exact ratio is. Raises
    ValueError for counts that are not those of every sample.
    """
    for row, whole in zip(counts, whole_counts(cascade), strict=True):
        if min(row) < 0 or sum(row) != whole:
            raise ValueError(f"counts: expected all {whole} samples of each level, got {sum(row)}")
    leaders = dict.fromkeys(list(row).index(max(row)) for row in counts)
    certificates = [(label, _certificate(cascade, counts, label)) for label in leaders]
    return max(certificates, key=lambda pair: pair[1].radius)


def _certificate(cascade: Cascade, counts: Sequence[Sequence[int]], label: int) -> Certificate:
    lower = [row[label] / sum(row) for row in counts]
    upper = [_rival(row, label) / sum(row) for row in counts]
    return cascade.certify(lower, upper)


def _rival(row: Sequence[int], label: int) -> int:
    return max((votes for c, votes in enumerate(row) if c != label), default=0)


def counted_limit(cascade: Cascade) -> float:
    """The largest radius that such a cascade can certify, cut to six digits: when all samples vote for one class."""
    return cascade.certify([1.0] * cascade.levels, [0.0] * cascade.levels).radius


class Counter:
    """Asks for each level's samples, all of them, and says at the end what is proved. classes: how many.

    Raises ValueError unless each level's noise is splitting.
    """

    def __init__(self, cascade: Cascade, classes: int) -> None:
        self._cascade, self._classes = cascade, index(classes)
        self._whole = whole_counts(cascade)
        self._counts: dict[int, list[int]] = {}

    def progress(self) -> list[tuple[int, bool]]:
        """(N, whether they have been counted) of each level."""
        return [(whole, k in self._counts) for k, whole in enumerate(self._whole)]

    def next(self) -> Query | None:
        """The next level's samples, or None when all have been counted."""
        missing = [k for k in reversed(range(self._cascade.levels)) if k not in self._counts]
        return (
            Query(level=missing[0], purpose="estimation", first=0, count=self._whole[missing[0]]) if missing else None
        )

    def outlook(self) -> list[Query]:
        """Nothing is drawn ahead: every sample will be asked for in its turn."""
        return []

    def observe(self, query: Query, counts: Sequence[int]) -> None:
        """Take the votes for `query`. Raises ProtocolError, and changes nothing, for another query or another total."""
        votes = [index(v) for v in counts]
        if query != self.next():
            raise ProtocolError(f"observe({query}): expected counts for {self.next()}")
        if len(votes) != self._classes or min(votes) < 0 or sum(votes) != query.count:
            raise ProtocolError(
                f"observe({query}): expected {query.count} votes of {self._classes} classes, got {votes}"
            )
        self._counts[query.level] = votes

    def result(self) -> Result:
        """What is proved: nothing before every level has been counted, and then all that can be."""
        levels = range(self._cascade.levels)
        complete = len(self._counts) == self._cascade.levels
        if not complete:
            return self._result(None, None, Reason.NO_DATA, complete=False)
        counts = [self._counts[k] for k in levels]
        label, certificate = counted_certificate(self._cascade, counts)
        reason = Reason.CERTIFIED if certificate.radius > 0.0 else self._abstain_reason(counts)
        return self._result(label, certificate, reason, complete=True)

    def _result(self, label: int | None, certificate: Certificate | None, reason: Reason, *, complete: bool) -> Result:
        certified = certificate is not None and certificate.level is not None
        return Result(
            label=label if certified else None,
            radius=0.0 if certificate is None else certificate.radius,
            level=None if certificate is None else certificate.level,
            samples_used=sum(self._whole[k] for k in self._counts),
            reason=reason,
            complete=complete,
            has_data=complete,
            stages=() if label is None or certificate is None else self._stages(label, certificate),
        )

    def _stages(self, label: int, certificate: Certificate) -> tuple[StageResult, ...]:
        stages = []
        for k, (low, up) in enumerate(zip(certificate.lower, certificate.upper, strict=True)):
            outcome, bound = contribution(self._cascade, k, certificate.level, low, up)
            stages.append(
                StageResult(
                    level=k,
                    sigma=self._cascade.sigmas[k],
                    outcome=outcome,
                    samples=self._whole[k],
                    pilot_samples=0,
                    count=self._counts[k][label],
                    rival_count=_rival(self._counts[k], label),
                    p_lower=low,
                    p_rival_upper=up,
                    # Cut as the radius is: of an exact bound on the grid, the image at that distance is not in it.
                    radius_bound=None if bound is None else floor_radius(bound),
                )
            )
        return tuple(stages)

    def _abstain_reason(self, counts: list[list[int]]) -> Reason:
        """As the certifier says it, of exact probabilities."""
        leaders = [row.index(max(row)) for row in counts]
        confident = [k for k, row in enumerate(counts) if self._confident(k, row, leaders[k])]
        for k in confident:
            if any(leader != leaders[k] for leader in leaders[k + 1 :]):
                return Reason.RIVAL_AT_LARGER_SIGMA
        return Reason.UNDECIDED if confident else Reason.NO_STAGE_CONFIDENT

    def _confident(self, k: int, row: list[int], leader: int) -> bool:
        return self._cascade.own(k, row[leader] / self._whole[k], _rival(row, leader) / self._whole[k]) is not None
