"""models.train.protocols on votes written by hand: the card's arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
from scipy.stats import beta, norm  # noqa: E402

from certify.models.train.protocols import Outcome, cascade, reference, shares, single_scale, summary  # noqa: E402
from certify.models.train.votes import PILOT, Votes  # noqa: E402

N = 1000
ALPHA = 0.001


def votes_of(*images: list[list[float]]) -> Votes:
    """images[i][k]: class shares of image i at sigma (.25, .5)[k]; class 0 is the true one. Draws are shuffled."""
    rng = np.random.default_rng(0)

    def draws(shares: list[float], n: int) -> np.ndarray:
        counts = np.round(np.array(shares) * n).astype(int)
        assert counts.sum() == n
        return rng.permutation(np.repeat(np.arange(len(shares)), counts)).astype(np.uint8)

    estimation = np.stack([np.stack([draws(shares, N) for shares in image]) for image in images])
    return Votes(
        truth=np.zeros(len(images), dtype=np.int64),
        sigmas=(0.25, 0.5),
        plain=np.zeros(len(images), dtype=np.uint8),
        pilot=estimation[:, :, :PILOT].copy(),
        estimation=estimation,
        undenoised=estimation,
    )


def lower(successes: int, error: float) -> float:
    return float(beta.ppf(error, successes, N - successes + 1))


def upper(successes: int, error: float) -> float:
    return float(beta.ppf(1 - error, successes + 1, N - successes))


def test_a_single_scale_is_cohens_certify() -> None:
    """sigma Phi^-1(CPl(900, 1000, alpha)), by SciPy's own beta quantile."""
    [outcome] = single_scale(votes_of([[0.9, 0.1], [0.6, 0.4]]), 0, 2, N, ALPHA, "threshold")
    assert outcome.label == 0 and outcome.draws == N + 100
    assert outcome.radius == pytest.approx(0.25 * norm.ppf(lower(900, ALPHA)), abs=2e-6)


def test_the_reference_decides_at_the_first_scale_above_one_half() -> None:
    [outcome] = reference(votes_of([[0.99, 0.01], [0.8, 0.2]]), [0, 1], 2, N, ALPHA)
    assert outcome.label == 0 and outcome.draws == N + 100
    assert outcome.radius == pytest.approx(0.5 * norm.ppf(lower(800, ALPHA)), abs=2e-6)


def test_the_reference_goes_on_below_one_half_and_pays_for_the_rival_above() -> None:
    """Coarse .2/.4/.4 passes; then .25 decides with alpha/2, and the coarse rival at .4 bounds it by alpha's bound."""
    [outcome] = reference(votes_of([[0.99, 0.01, 0.0], [0.2, 0.4, 0.4]]), [0, 1], 3, N, ALPHA)
    own = 0.25 * norm.ppf(lower(990, ALPHA / 2))
    shield = -0.5 * norm.ppf(upper(400, ALPHA))
    assert outcome.label == 0 and outcome.draws == 2 * (N + 100)
    assert shield < own
    assert outcome.radius == pytest.approx(shield, abs=2e-6)


def test_the_reference_abstains_when_undecided() -> None:
    [outcome] = reference(votes_of([[0.99, 0.01], [0.5, 0.5]]), [0, 1], 2, N, ALPHA)
    assert outcome == Outcome(None, 0.0, N + 100)


def test_the_cascade_stays_in_its_budget_and_certifies_a_clear_image() -> None:
    votes = votes_of([[0.99, 0.01], [0.95, 0.05]])
    [outcome] = cascade(votes, [0, 1], 2, 960, ALPHA, (0.5, 0.5), "plurality", 32)
    assert outcome.label == 0 and 0.5 < outcome.radius < 0.5 * norm.ppf(0.95)
    assert outcome.draws <= 960


def test_summary_counts_only_right_answers_into_accuracy_and_radius() -> None:
    """Right at .3, wrong at .9, abstained, right at .5: accuracy at 0 is 2/4, ACR (.3 + .5) / 4."""
    outcomes = [Outcome(0, 0.3, 100), Outcome(1, 0.9, 100), Outcome(None, 0.0, 50), Outcome(0, 0.5, 50)]
    found = summary(outcomes, np.zeros(4, dtype=np.int64))
    assert found["accuracy"] == {"0": 0.5, "0.25": 0.5, "0.5": 0.25, "0.75": 0.0, "1": 0.0}
    assert found["acr"] == pytest.approx(0.2)
    assert (found["abstained"], found["wrong"], found["draws"]) == (0.25, 0.25, 75.0)


def test_shares_count_strict_majorities() -> None:
    votes = votes_of([[0.5, 0.5], [1, 0]], [[0.6, 0.4], [1, 0]], [[0.3, 0.7], [1, 0]])
    assert shares(votes, 0, 2, N) == {"true_class": 1 / 3, "wrong_class": 1 / 3}


def test_draws_that_were_not_drawn_cannot_be_counted() -> None:
    with pytest.raises(ValueError, match="expected draws 990"):
        votes_of([[0.6, 0.4], [1, 0]]).counts(0, 0, 2, 990, 32)
