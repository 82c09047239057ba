"""Planning from a stored pilot is what the state machine does when the same pilot is its own."""

from __future__ import annotations

import numpy as np
import pytest

from certify.models.bundle import Final
from certify.service.core import Cascade, Certifier, ProtocolError, plan_from_pilot


@pytest.mark.parametrize("final", ["plurality", "threshold"])
def test_it_is_what_the_certifier_freezes(final: Final) -> None:
    random = np.random.default_rng(0)
    cascade = Cascade.of((0.25, 0.5, 1.0), (0.5, 0.6, 0.7), final)
    levels = set()
    for _ in range(40):
        pilot = [random.multinomial(128, random.dirichlet([0.3] * 4)).tolist() for _ in range(3)]
        certifier = Certifier(cascade, 4, samples=10_000 + 3 * 128, pilot=128)
        while (query := certifier.next()) is not None and query.purpose == "pilot":
            certifier.observe(query, pilot[query.level])
        plan = plan_from_pilot(cascade, pilot, 0.001, 10_000)
        assert (plan.label, plan.weights) == (certifier.label, certifier.weights)
        assert plan.weights[plan.level] == max(plan.weights) and sum(plan.weights) == pytest.approx(1)
        levels.add(plan.level)
    assert len(levels) > 1  # or this would show little


def test_counts_that_are_no_votes_are_refused_and_never_cut() -> None:
    for votes in ([1.5, 126.5], [-1, 129]):
        with pytest.raises(ProtocolError, match="counts: expected"):
            plan_from_pilot(Cascade.of((0.5,)), [votes], 0.001, 1_000)  # type: ignore[list-item]
