"""Muon: the orthogonal step, which parameters take it, and its checkpoints."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from certify.models.train.config import Optimisation  # noqa: E402
from certify.models.train.muon import COEFFICIENTS, ROUNDS, Muon, build_optimizer, orthogonal  # noqa: E402

CONFIG = Optimisation(
    seed=0, steps=10, batch=1, learning_rate=1e-3, warmup_steps=1, weight_decay=0.0, grad_clip=1.0, ema=0.9,
    mixed_precision="no", checkpoint_every=1, muon_rate=0.02,
)  # fmt: skip


def _plain_newton_schulz(matrix):
    """The author's loop, on the whole matrix."""
    a, b, c = COEFFICIENTS
    x = matrix / matrix.norm()
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(4, 4), (16, 144), (144, 16)])
def test_orthogonal_brings_every_singular_value_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert 0.65 < values.min() and values.max() < 1.25


def test_orthogonal_is_the_authors_iteration():
    matrix = torch.randn((16, 144), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(orthogonal(matrix), _plain_newton_schulz(matrix), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(orthogonal(matrix.T), _plain_newton_schulz(matrix).T, atol=1e-4, rtol=1e-3)


def test_orthogonal_keeps_the_directions():
    """diag(3, 1) / sqrt(10) has singular values .949 and .316 on the axes: they are moved, the axes are not."""
    turned = orthogonal(torch.diag(torch.tensor([3.0, 1.0])))
    assert turned[0, 1] == turned[1, 0] == 0 and turned.diag().min() > 0.65


def test_matrices_step_along_their_orthogonal_gradient_and_vectors_as_in_adamw():
    weight, bias = torch.nn.Parameter(torch.zeros(8, 2, 3, 3)), torch.nn.Parameter(torch.zeros(8))
    optimizer = build_optimizer([weight, bias], CONFIG)
    twin = torch.nn.Parameter(torch.zeros(8))
    adamw = torch.optim.AdamW([twin], lr=CONFIG.learning_rate, betas=(0.9, CONFIG.beta2), weight_decay=0.0)
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    bias.grad = twin.grad = torch.arange(8.0)
    expected = -CONFIG.muon_rate * orthogonal(weight.grad.flatten(1)).view_as(weight)
    optimizer.step()
    adamw.step()
    torch.testing.assert_close(weight.data, expected, atol=1e-5, rtol=1e-3)
    assert torch.equal(bias.data, twin.data)


def test_weights_of_one_shape_step_together_as_they_would_alone():
    shapes = [(8, 2, 3, 3), (8, 18), (8, 2, 3, 3), (18, 8)]  # the first three are one matrix's shape
    generator = torch.Generator().manual_seed(4)
    starts = [torch.randn(shape, generator=generator) for shape in shapes]
    gradients = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2)]

    def steps(numbers):
        weights = [torch.nn.Parameter(starts[number].clone()) for number in numbers]
        optimizer = build_optimizer(weights, CONFIG)
        for gradient in gradients:
            for number, weight in zip(numbers, weights, strict=True):
                weight.grad = gradient[number].clone()
            optimizer.step()
        return [weight.detach() for weight in weights]

    together = steps(range(4))
    for number, weight in enumerate(together):
        assert not torch.equal(weight, starts[number])
        torch.testing.assert_close(weight, steps([number])[0], atol=1e-6, rtol=1e-5)


def test_the_rate_of_the_schedule_scales_both():
    weight, bias = torch.nn.Parameter(torch.zeros(4, 4)), torch.nn.Parameter(torch.zeros(4))
    optimizer = build_optimizer([weight, bias], CONFIG)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    weight.grad, bias.grad = torch.randn(4, 4), torch.ones(4)
    optimizer.step()
    assert not weight.any() and not bias.any()


def test_a_checkpoint_goes_on_to_the_same_weights():
    def steps(count, state=None, start=None):
        parameters = [torch.nn.Parameter(value.clone()) for value in start]
        optimizer = build_optimizer(parameters, CONFIG)
        if state is not None:
            optimizer.load_state_dict(state)
        for _ in range(count):
            for parameter in parameters:
                parameter.grad = parameter.detach() + 1
            optimizer.step()
        return [p.detach() for p in parameters], optimizer.state_dict()

    start = [torch.eye(4), torch.ones(4)]
    whole, _ = steps(4, start=start)
    half, state = steps(2, start=start)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    resumed, _ = steps(2, state=torch.load(buffer, weights_only=True), start=half)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_without_a_muon_rate_everything_goes_by_adamw():
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(2, 2))], replace(CONFIG, muon_rate=0.0))
    assert not isinstance(optimizer, Muon)
