"""The smallest budget and the largest radius: what is promised can be had, and no more."""

import pytest

from certify.service.core import Cascade, Certifier, floor_radius, max_radius, min_samples, reachable
from certify.service.core.bounds import radius_needed

SIGMAS = [0.12, 0.25, 0.5]


def unanimous(cascade: Cascade, samples: int, radius: float | None = None, **parameters) -> float:
    machine = Certifier(cascade, 10, samples=samples, radius=radius, **parameters)
    while (query := machine.next()) is not None:
        machine.observe(query, [query.count, *([0] * 9)])
    return machine.result().radius


@pytest.mark.parametrize(("chunk", "grain"), [(1, 1), (32, 32), (32, 64), (32, 512)])
@pytest.mark.parametrize("alpha", [0.1, 0.001, 1e-9])
@pytest.mark.parametrize("final", ["threshold", "plurality"])
def test_the_smallest_budget_certifies_unanimous_votes_and_one_chunk_less_does_not(chunk, grain, alpha, final):
    cascade, parameters = Cascade.of(SIGMAS, final=final), {"alpha": alpha, "chunk": chunk, "grain": grain}
    smallest = min_samples(cascade, **parameters)
    assert smallest % chunk == 0
    assert unanimous(cascade, smallest, **parameters) > 0.0
    try:
        less = unanimous(cascade, smallest - chunk, **parameters)
    except ValueError:
        less = 0.0  # not even the pilots fit
    assert less == 0.0


@pytest.mark.parametrize("samples", [1_000, 10_000, 100_000])
@pytest.mark.parametrize("threshold", [0.5, [0.5, 0.6, 0.9]])
@pytest.mark.parametrize("grain", [32, 64, 512])
def test_the_largest_radius_can_be_had_and_a_little_more_cannot(samples, threshold, grain):
    cascade, parameters = Cascade.of(SIGMAS, threshold), {"alpha": 0.001, "chunk": 32, "grain": grain}
    largest = max_radius(cascade, samples=samples, **parameters)
    assert unanimous(cascade, samples, largest, **parameters) >= largest
    assert unanimous(cascade, samples, largest + 2e-6, **parameters) < largest + 2e-6


@pytest.mark.parametrize("final", ["threshold", "plurality"])
def test_one_run_says_what_the_limits_say(final):
    cascade, parameters = Cascade.of(SIGMAS, [0.5, 0.6, 0.9], final), {"alpha": 0.001, "chunk": 32, "grain": 64}
    smallest = min_samples(cascade, **parameters)
    assert [reachable(cascade, samples=n, **parameters) for n in (10, smallest - 1, smallest, 10 * smallest)] == [
        False,
        False,
        True,
        True,
    ]
    largest = max_radius(cascade, samples=3_000, **parameters)
    radii = (largest / 2, largest, largest + 2e-6, 1e300)
    assert [reachable(cascade, samples=3_000, radius=r, **parameters) for r in radii] == [True, True, False, False]


def test_more_samples_reach_further():
    radii = [max_radius(Cascade.of(SIGMAS), alpha=0.001, samples=n, chunk=32) for n in (1_000, 10_000, 100_000)]
    assert radii == sorted(radii)
    assert radii[-1] < 0.5 * 3.8115  # 0.001 ** (1 / 100_000), no pilot and all of alpha: the bound on any method


def test_a_threshold_that_no_budget_passes_is_refused():
    with pytest.raises(OverflowError, match="threshold"):
        min_samples(Cascade.of([0.5], 1 - 1e-13, "threshold"), alpha=0.001, chunk=32)


@pytest.mark.parametrize("radius", [0.1, 0.3, 0.123456789, 1e-6, 3.0000001, 0.7])
def test_the_radius_needed_is_the_least_that_is_cut_to_the_request(radius):
    needed = radius_needed(radius)
    assert floor_radius(needed) >= radius
    assert floor_radius(needed - 4e-9) < radius
