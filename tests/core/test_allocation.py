"""Planning at its edges: what no number of draws can reach costs infinitely many."""

import math

import numpy as np
import pytest

from certify.service.core import Cascade, Certifier
from certify.service.core.allocation import Errors, Estimate, need_of, rate, term_z

ERRORS = Errors(0.001, 0.001)


@pytest.mark.parametrize(
    ("final", "level", "own"), [("plurality", 0, True), ("threshold", 0, True), ("threshold", 1, False)]
)
def test_a_radius_beyond_a_terms_reach_needs_infinitely_many_draws(final, level, own):
    cascade = Cascade.of((0.25, 0.5), threshold=0.5, final=final)
    reach, draws = need_of(cascade, level, own=own, estimate=Estimate(0.9, 0.08, 100), error=ERRORS, cautious=False)
    assert reach > 0
    assert draws(0.5 * reach) < draws(0.9 * reach) < math.inf
    assert draws(1.01 * reach) == math.inf


@pytest.mark.parametrize("own", [True, False])
def test_nothing_is_known_before_the_first_draw(own):
    cascade = Cascade.of((0.25, 0.5), threshold=0.5, final="plurality")
    assert term_z(cascade, 0, own=own, estimate=rate(0, 0, 0), radius=0.1) == 0.0


def asked(rates: list[list[float]], seed: int, **arguments) -> list[tuple[int, int]]:
    """(level, draws) of each estimation query, votes drawn at these rates."""
    cascade = Cascade.of((0.25, 0.5), threshold=[0.5, 0.7], final="plurality")
    certifier = Certifier(cascade, 2, alpha=0.01, samples=1_000, **arguments)
    generator = np.random.default_rng(seed)
    queries = []
    while (query := certifier.next()) is not None:
        if query.purpose == "estimation":
            queries.append((query.level, query.count))
        certifier.observe(query, generator.multinomial(query.count, rates[query.level]).tolist())
    return queries


def test_a_shield_that_binds_is_drawn_beyond_its_plan():
    """In max mode: the coarse level's rival is near its threshold, so more draws there are what raises the radius."""
    queries = asked([[0.906, 0.094], [0.396, 0.604]], seed=31, chunk=8)
    own, shield = (sum(count for k, count in queries if k == level) for level in (0, 1))
    assert shield > own > 0


def test_a_path_that_is_given_up_leaves_its_draws_to_another():
    """In radius mode: the coarse level is planned and turns out hopeless; the finer path certifies."""
    levels = [level for level, _ in asked([[0.75, 0.25], [0.62, 0.38]], seed=34, chunk=8, radius=0.1)]
    assert levels[0] == 1 and levels[-1] == 0
    assert levels == sorted(levels, reverse=True)  # and nothing goes back


def test_a_grain_that_is_no_multiple_of_the_chunk_is_refused():
    with pytest.raises(ValueError, match="grain: expected a multiple of 32, got 48"):
        asked([[0.9, 0.1]] * 2, seed=0, chunk=32, grain=48)
