"""The adaptive certifier: a state machine that says which draws it wants next and what is proved so far.

    certifier = Certifier(Cascade.of(sigmas, threshold), classes, samples=10_000)
    while (query := certifier.next()) is not None:
        certifier.observe(query, counts_of(query))
    certifier.result()      # legal at any moment, and sound at any moment

No clock, no randomness, no I/O. All state is integers, floats, strings and lists (`state()` / `from_state()`).

Rules; the proofs are in docs/protocol.md, 2 and 3. Whoever changes this file keeps them.
1. A level has two streams of draws, pilot and estimation. Bounds are computed from estimation draws alone.
2. The label, the weights and every level's looks are frozen when the pilot ends, before any estimation draw exists.
3. Look i of a level uses exactly the first n_i draws of its estimation stream, and spends alpha * weight * share_i.
   All looks of a level spend at most its weight together, whether they are taken or not.
4. Which look is taken next, and when to stop, may depend on anything (Theorem 4).
5. The draws of all queries together never exceed `samples`.

Theory of operation. Three states, two events:

    state      next()                                                        observe(query, counts)
    pilot      the next level's pilot, coarsest first; when enough is        counts go into that level's pilot
               known, rule 2 freezes the plan: ESTIMATE, or DONE when
               every path is hopeless
    estimate   the look that matters most; None when nothing is left to      counts go into that level's estimation
               gain or to spend: DONE                                        draws; its bounds tighten (rule 3)
    done       None                                                          refused

`next()` alone moves from state to state, as the strategy decides, and repeats a query until it has been observed.
`observe()` takes the pending query alone; what it refuses changes nothing. Alpha is divided once, at the freeze: over
levels by the weights (docs/protocol.md, 3.2), over a level's looks by their shares (docs/protocol.md, 3.3), and never
again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

from . import strategy
from .allocation import FUTILITY_LEVEL
from .bounds import clopper_pearson_lower
from .certificate import Cascade, level_bounds
from .looks import Look
from .outlook import outlook
from .reasons import Reason
from .results import ProtocolError, Query, Result, StageResult, contribution
from .state import Ask, Decision, Level, Plan, State

__all__ = ("Certifier",)

# Measured: docs/protocol.md, 4.3.
PILOT_MAX, PILOT_RADIUS = 100, 32  # pilot draws a level without and with a requested radius: enough to pick the path
PILOT_BUDGET_SHARE = 10  # all pilots together take at most this fraction of the budget: a small one must certify too


class Certifier:
    """One answer: the largest certified radius within a budget, or a yes to a requested radius as cheaply as possible.

    cascade: scales, noises, thresholds and the finest scale's rule. classes: how many. alpha: the probability that the
    certificate is wrong, in (0, 1). samples: most draws to spend, pilots included. radius: in the cascade's norm; None
    asks for as much as can be had. chunk: every query is a multiple of it. grain: a multiple of chunk at which
    looks end where the budget allows; given the samples that the network takes together, little of its work is
    padding. pilot: pilot draws a level instead of the default. single_look: one look a level at the whole of its error;
    with one sigma and final="threshold" this is CERTIFY of Cohen et al. (2019). Raises ValueError, naming the argument.
    """

    def __init__(
        self,
        cascade: Cascade,
        classes: int,
        *,
        alpha: float = 0.001,  # this and the next: docs/protocol.md, 4.2
        samples: int = 10_000,
        radius: float | None = None,
        chunk: int = 1,
        grain: int | None = None,
        pilot: int | None = None,
        single_look: bool = False,
    ) -> None:
        classes, chunk, alpha = index(classes), index(chunk), float(alpha)
        grain = chunk if grain is None else index(grain)
        radius = None if radius is None else float(radius)
        _check(classes, alpha, radius, chunk, grain, pilot)
        levels, budget = cascade.levels, index(samples) // chunk * chunk
        pilot = _pilot_draws(pilot, levels, budget, radius, chunk, grain)
        if budget < levels * pilot + chunk:
            raise ValueError(
                f"samples: expected at least {levels * pilot + chunk} "
                f"({levels} pilots of {pilot} and one chunk), got {samples}"
            )
        self._state = State(
            cascade=cascade,
            classes=classes,
            alpha=alpha,
            samples=budget,
            radius=radius,
            chunk=chunk,
            grain=grain,
            pilot=pilot,
            single_look=bool(single_look),
            levels=[Level(classes) for _ in range(levels)],
        )

    @property
    def used(self) -> int:
        """Draws spent so far, pilots included."""
        return self._state.used

    @property
    def pilot(self) -> int:
        """Draws of each level's pilot."""
        return self._state.pilot

    @property
    def label(self) -> int | None:
        """The class being certified; None before the pilot is over."""
        return self._state.label

    @property
    def weights(self) -> tuple[float, ...]:
        """Of Theorem 3, one per level; empty before the pilot is over."""
        return self._state.weights

    def next(self) -> Query | None:
        """The draws wanted now, or None when the answer stands. The same query again until it has been observed."""
        state = self._state
        if state.pending is None and state.phase == "pilot":
            self._apply(strategy.next_pilot(state))
        if state.pending is None and state.phase == "estimate":
            self._apply(strategy.next_look(state))
        return state.pending

    def outlook(self) -> list[Query]:
        """What may be asked after the pending query, the likeliest first: a guess, for draws ahead (outlook.py)."""
        return outlook(self._state)

    def _apply(self, decision: Decision) -> None:
        state = self._state
        if isinstance(decision, Plan):  # rule 2
            state.label, state.path, state.weights = decision.label, decision.path, decision.weights
            splits = state.cascade.error_split(state.weights)
            for level, looks, split in zip(state.levels, decision.looks, splits, strict=True):
                level.freeze(looks, state.alpha, split)
            state.phase = "estimate"
            return
        if decision.path is not None:
            state.path = decision.path
        if isinstance(decision, Ask):
            state.pending = decision.query
        else:
            state.phase, state.hopeless = "done", decision.hopeless

    def observe(self, query: Query, counts: Sequence[int]) -> None:
        """Take the votes for `query`: one count per class, summing to query.count.

        Raises ProtocolError, and changes nothing, for a call out of turn, another query than the pending one, a wrong
        number of classes, negative or fractional counts, or a wrong total.
        """
        votes = self._checked(query, counts)
        level = self._state.levels[query.level]
        if query.purpose == "pilot":
            level.add_pilot(votes)
        else:
            level.add(votes)
            self._look(query.level)
        self._state.pending = None

    def _checked(self, query: Query, counts: Sequence[int]) -> list[int]:
        def refusal(what: str) -> ProtocolError:
            return ProtocolError(f"observe({query}) in state {self._state.phase!r}: {what}")

        if self._state.pending is None:
            raise refusal("no query is pending")
        if query is not self._state.pending and query != self._state.pending:
            raise refusal(f"expected counts for {self._state.pending}")
        try:
            votes = list(map(index, counts))
        except TypeError as error:
            raise refusal(f"counts: expected integers, got {counts!r}") from error
        if len(votes) != self._state.classes:
            raise refusal(f"counts: expected one for each of {self._state.classes} classes, got {len(votes)}")
        if min(votes) < 0:
            raise refusal(f"counts: expected values >= 0, got {min(votes)}")
        if sum(votes) != query.count:
            raise refusal(f"counts: expected a total of {query.count}, got {sum(votes)}")
        return votes

    def _look(self, k: int) -> None:
        """Rule 3: tighten level k's bounds at the look that its draws have just completed."""
        label, _ = self._state.chosen
        level = self._state.levels[k]
        level.taken += 1
        label_count, rival_count = level.split(label)
        lower, upper = level_bounds(label_count, rival_count, level.samples, level.errors[level.taken - 1])
        level.tighten(lower, upper)

    def result(self) -> Result:
        """What is proved so far. Before the first look nothing is, and the label is None."""
        levels = self._state.levels
        certificate = self._state.cascade.certify([v.lower for v in levels], [v.upper for v in levels])
        certified = certificate.level is not None
        return Result(
            label=self._state.label if certified else None,
            radius=certificate.radius,
            level=certificate.level,
            samples_used=self._state.used,
            reason=Reason.CERTIFIED if certified else self._abstain_reason(),
            complete=self._state.phase == "done",
            has_data=any(level.taken for level in levels),
            stages=tuple(self._stage(k, certificate.level) for k in range(len(levels))),
        )

    def _stage(self, k: int, best: int | None) -> StageResult:
        level, cascade, label = self._state.levels[k], self._state.cascade, self._state.label
        outcome, bound = contribution(cascade, k, best, level.lower, level.upper)
        label_count, rival_count = (0, 0) if label is None else level.split(label)
        return StageResult(
            level=k,
            sigma=cascade.sigmas[k],
            outcome=outcome,
            samples=level.samples,
            pilot_samples=level.pilot_samples,
            count=label_count,
            rival_count=rival_count,
            p_lower=level.lower,
            p_rival_upper=level.upper,
            radius_bound=bound,
        )

    def _abstain_reason(self) -> Reason:
        """Product words for an abstention; a diagnosis, not a certificate, so pilots may speak here."""
        if self._state.label is None and self._state.phase != "done":
            return Reason.NO_DATA
        leaders = [level.leader() for level in self._state.levels]
        confident = [k for k in range(len(self._state.levels)) if self._confident(k)]
        for k in confident:
            label = self._state.label if self._state.levels[k].taken else leaders[k]
            if any(leader not in (None, label) for leader in leaders[k + 1 :]):
                return Reason.RIVAL_AT_LARGER_SIGMA
        return Reason.NO_STAGE_CONFIDENT if self._state.hopeless and not confident else Reason.UNDECIDED

    def _confident(self, k: int) -> bool:
        level = self._state.levels[k]
        if level.taken:
            return self._state.cascade.own(k, level.lower, level.upper) is not None
        leader = level.leader()
        if leader is None:
            return False
        count, rival = level.split(leader, pilot=True)
        lower = clopper_pearson_lower(count, level.pilot_samples, FUTILITY_LEVEL)
        upper = 1.0 - clopper_pearson_lower(level.pilot_samples - rival, level.pilot_samples, FUTILITY_LEVEL)
        return self._state.cascade.own(k, lower, upper) is not None

    def planned(self) -> list[tuple[float, tuple[Look, ...], int, int]]:
        """(weight, looks, how many were taken, pilot samples) of each level; weights are 0 until they are fixed."""
        levels = self._state.levels
        weights = self._state.weights or (0.0,) * len(levels)
        return [
            (weight, level.looks, level.taken, level.pilot_samples)
            for weight, level in zip(weights, levels, strict=True)
        ]

    def state(self) -> dict[str, Any]:
        """Everything, as values that JSON can hold; `from_state` goes on from there, to the last bit."""
        return self._state.as_dict()

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Certifier:
        """The certifier whose `state()` this is."""
        certifier = cls.__new__(cls)
        certifier._state = State.from_dict(state)
        return certifier


def _check(classes: int, alpha: float, radius: float | None, chunk: int, grain: int, pilot: int | None) -> None:
    if classes < 2:
        raise ValueError(f"classes: expected at least 2, got {classes}")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha: expected a failure probability in (0, 1), got {alpha}")
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1, got {chunk}")
    if grain < 1 or grain % chunk:
        raise ValueError(f"grain: expected a multiple of {chunk}, got {grain}")
    if radius is not None and not 0.0 < radius < math.inf:
        raise ValueError(f"radius: expected a finite value > 0, got {radius}")
    if pilot is not None and index(pilot) < 1:
        raise ValueError(f"pilot: expected at least 1 draw a level, got {pilot}")


def _pilot_draws(pilot: int | None, levels: int, budget: int, radius: float | None, chunk: int, grain: int) -> int:
    """Draws of each level's pilot: as asked for, or the default, in whole chunks."""
    if pilot is not None:
        return -(-index(pilot) // chunk) * chunk
    most = PILOT_MAX if radius is None else PILOT_RADIUS
    default = min(most, max(1, budget // (PILOT_BUDGET_SHARE * levels)))
    # A pilot of whole batches costs nothing more, where that is still a small part of the budget.
    step = grain if levels * PILOT_BUDGET_SHARE * grain <= budget else chunk
    return -(-default // step) * step
