"""models.traceable: other operators, the same function, in any rank and for whoever calls it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
timm_layers = pytest.importorskip("timm.layers")
from torch.nn import functional  # noqa: E402

from certify.models.traceable import ForOpenVino, pooled_group_norm  # noqa: E402

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT, BIAS = torch.rand(12, generator=GENERATOR), torch.rand(12, generator=GENERATOR)
SHAPES = [(5, 12), (5, 12, 7), (5, 12, 3, 2), (5, 12, 1, 1), (1, 12, 2, 3, 4)]


def values(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.2, 2, shape[1]).view(
        -1, *(1 for _ in shape[2:])
    )


@pytest.mark.parametrize("groups", [1, 3, 4, 12])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_group_norms_of_any_rank_are_torchs(shape: tuple[int, ...], groups: int):
    x = values(shape)
    assert torch.allclose(
        pooled_group_norm(x, groups, WEIGHT, BIAS, 1e-4),
        functional.group_norm(x, groups, WEIGHT, BIAS, 1e-4),
        atol=1e-5,
    )
    assert torch.allclose(pooled_group_norm(x, groups), functional.group_norm(x, groups), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_in_bfloat16_they_keep_what_bfloat16_can(shape: tuple[int, ...]):
    """Against float32's answer to the same rounded values: 8 bits of 5 units, after a few roundings."""
    x, weight, bias = (t.bfloat16() for t in (values(shape), WEIGHT, BIAS))
    expected = functional.group_norm(x.float(), 4, weight.float(), bias.float())
    ours = pooled_group_norm(x, 4, weight, bias)
    assert ours.dtype == torch.bfloat16
    assert torch.allclose(ours.float(), expected, atol=0.05)
    assert (expected.amax() - expected.amin()) > 1  # the comparison is of something


def test_far_from_centred_inputs_keep_their_variance():
    """Where a mean of squares would have lost it."""
    x = values((5, 12, 3, 2)) + 100.0
    assert torch.allclose(pooled_group_norm(x, 4, WEIGHT, BIAS), functional.group_norm(x, 4, WEIGHT, BIAS), atol=2e-3)


def test_a_norm_with_an_activation_keeps_it():
    """timm's layer is a GroupNorm too, and does more than one."""
    layer = timm_layers.GroupNormAct(12, 4).eval()
    x = values((2, 12, 3, 3))
    with torch.inference_mode():
        expected = layer(x)
        with ForOpenVino():
            ours = layer(x)
    assert torch.allclose(ours, expected, atol=1e-5) and not torch.equal(ours, expected)
    assert float(ours.min()) == 0.0


@pytest.mark.parametrize("size", [1, 2, 5])
def test_pools_are_torchs(size: int):
    pool = torch.nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
    x = values((2, 12, size, size))
    with ForOpenVino():
        assert torch.equal(pool(x), functional.avg_pool2d(x, 2, 2, 0, True, False))
        assert torch.equal(pool(x), x) == (size == 1)


@pytest.mark.parametrize("kernel", [3, 5, (5, 3), 40])
def test_a_pool_larger_than_its_map_is_its_mean(kernel: int | tuple[int, int]):
    pool = torch.nn.AvgPool2d(kernel, ceil_mode=True)
    x = values((2, 12, 3, 2))
    with ForOpenVino():
        ours = pool(x)
    assert torch.allclose(ours, functional.avg_pool2d(x, kernel, ceil_mode=True), atol=1e-6)
    assert ours.shape == (2, 12, 1, 1)
