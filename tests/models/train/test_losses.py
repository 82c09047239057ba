"""The losses against hand-worked values, and where their gradients go."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch", reason="training needs torch (pip install 'certify[train]')")

import torch

from certify.models.train.losses import anti_consistency, brier, cross_entropy


def logits(*probabilities: list[float]):
    """Logits whose softmax is these rows."""
    return torch.tensor(probabilities, dtype=torch.float64).log().requires_grad_()


def test_brier_by_hand() -> None:
    # (.5 - 1)^2 + .25^2 + .25^2 = .375 and .1^2 + .2^2 + (.7 - 0)^2 + ... with target 1: .01 + .64 + .49 = 1.14
    value = brier(logits([0.5, 0.25, 0.25], [0.1, 0.2, 0.7]), torch.tensor([0, 1]))
    assert value.item() == pytest.approx((0.375 + 1.14) / 2, abs=1e-12)


def test_briers_gradient_by_hand() -> None:
    # Two classes, p = softmax: L = 2 (1 - p)^2, dL/dz_0 = -4 p (1 - p)^2.
    z = logits([0.25, 0.75])
    brier(z, torch.tensor([0])).backward()
    slope = -4 * 0.25 * 0.75**2
    assert z.grad.tolist() == [pytest.approx([slope, -slope], abs=1e-12)]


def test_brier_is_bounded_where_cross_entropy_is_not() -> None:
    wrong = torch.tensor([[0.0, 1000.0]])
    assert brier(wrong, torch.tensor([0])).item() == 2
    assert cross_entropy(wrong, torch.tensor([0])).item() == 1000


def test_cross_entropy_by_hand() -> None:
    value = cross_entropy(logits([0.5, 0.5], [0.2, 0.8]), torch.tensor([0, 1]))
    assert value.item() == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2, abs=1e-12)


def test_anti_consistency_by_hand() -> None:
    first = logits([0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1])
    second = logits([0.2, 0.6, 0.2], [0.6, 0.2, 0.2], [0.2, 0.2, 0.6], [0.1, 0.9, 0.0001])
    # Image 0: both say 1, the target is 0: -log(1 - .6). 1: both are right. 2 and 3: they disagree.
    value = anti_consistency(first, second, torch.tensor([0, 0, 0, 2]))
    assert value.item() == pytest.approx(-math.log(0.4) / 4, abs=1e-12)
    value.backward()
    assert first.grad is None
    # d/dz_c of -log(1 - p_c) is p_c; for another class j it is p_c (-p_j / (1 - p_c)). A quarter of each: the mean.
    assert second.grad[0].tolist() == pytest.approx([-0.6 * 0.2 / 0.4 / 4, 0.6 / 4, -0.6 * 0.2 / 0.4 / 4], abs=1e-12)
    assert second.grad[1:].count_nonzero() == 0


@pytest.mark.parametrize("target", [0, 1])
def test_no_anti_consistency_gradient_when_every_pair_is_right_or_disagrees(target: int) -> None:
    first, second = logits([0.9, 0.1], [0.9, 0.1]), logits([0.8, 0.2], [0.2, 0.8])
    # Target 0: the first pair is right, the second disagrees. Target 1 for the second image alone changes nothing.
    value = anti_consistency(first, second, torch.tensor([0, target]))
    value.backward()
    assert value.item() == 0
    assert second.grad.count_nonzero() == 0


def test_anti_consistency_is_finite_for_a_classifier_that_is_certain() -> None:
    sure = torch.tensor([[0.0, 200.0]], requires_grad=True)
    value = anti_consistency(sure.detach(), sure, torch.tensor([0]))
    value.backward()
    assert value.item() == 200
    assert sure.grad.isfinite().all()


def test_gradients_agree_with_differences() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 8, 4, dtype=torch.float64).unbind()
    second = first + 0.1 * second  # mostly agrees
    target = torch.randint(4, (8,))
    second.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: anti_consistency(first, z, target), second)
    assert torch.autograd.gradcheck(lambda z: brier(z, target), second)
