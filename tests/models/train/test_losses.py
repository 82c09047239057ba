"""The losses against hand-worked values, and where their gradients go."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch", reason="training needs torch (pip install 'certify[train]')")

import torch

from certify.models.train.losses import anti_consistency, brier, consistency, cross_entropy


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
    assert torch.autograd.gradcheck(consistency, (first.requires_grad_(), second))


def test_consistency_is_the_sum_as_it_is_written() -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 5, 3, dtype=torch.float64, generator=generator).unbind()
    total = 0.0
    for p, q in zip(first.softmax(dim=1).tolist(), second.softmax(dim=1).tolist(), strict=True):
        mean = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        for draw in (p, q):
            total += sum(a * math.log(a / m) for a, m in zip(draw, mean, strict=True)) / 2
        total += 0.5 * -sum(m * math.log(m) for m in mean)
    assert consistency(first, second).item() == pytest.approx(total / 5, rel=1e-12)


def test_draws_that_agree_leave_half_their_entropy() -> None:
    value = consistency(logits([0.5, 0.25, 0.25]), logits([0.5, 0.25, 0.25]))
    assert value.item() == pytest.approx(0.5 * 1.5 * math.log(2), abs=1e-12)  # 1.5 bits, and no divergence


def test_consistency_of_draws_that_are_certain_is_finite_and_so_is_its_gradient() -> None:
    first = torch.tensor([[0.0, 200.0], [200.0, 0.0]], requires_grad=True)
    second = torch.tensor([[0.0, 200.0], [0.0, 200.0]], requires_grad=True)
    value = consistency(first, second)
    value.backward()
    # They agree, which costs nothing, and they do not: log 2 of divergence and half a bit of entropy.
    assert value.item() == pytest.approx(1.5 * math.log(2) / 2)
    assert first.grad.isfinite().all() and second.grad.isfinite().all()


def test_consistency_pulls_both_draws() -> None:
    first, second = logits([0.75, 0.25]), logits([0.25, 0.75])
    consistency(first, second).backward()
    # Downhill is to the other's class. Between them the mean is 1/2 whatever they do alike.
    assert first.grad[0, 0] > 0 > second.grad[0, 0]
    assert first.grad.sum().item() == pytest.approx(0, abs=1e-12)
