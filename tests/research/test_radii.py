"""Where a table is cut."""

from __future__ import annotations

import pytest

from certify.service.research.radii import radii_up_to


@pytest.mark.parametrize(
    ("largest", "cuts"),
    [
        (0.0, (0.0, 0.25)),
        (0.6, (0.0, 0.25, 0.5)),
        (1.0, (0.0, 0.25, 0.5, 0.75, 1.0)),
        (2.2, (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)),
        (0.2, (0.0, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2)),
        (0.3, (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)),  # the field's .25 is one of them
        (0.0031, (0.0, 0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003)),
        (12.0, (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0)),
    ],
)
def test_cuts_go_as_far_as_the_data(largest, cuts):
    assert radii_up_to(largest) == cuts


@pytest.mark.parametrize(
    "largest", [10.0**exponent * lead for exponent in range(-6, 4) for lead in (1, 1.9, 5.5, 9.99)]
)
def test_a_table_has_a_handful_of_columns_and_none_beyond_the_data(largest):
    cuts = radii_up_to(largest)
    assert 2 <= len(cuts) <= 11 and cuts[-1] <= largest * (1 + 1e-9)
    assert list(cuts) == sorted(set(cuts))
