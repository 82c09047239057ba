"""models.cost: counted by hand on small graphs, and by torch's own counter on the digits'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino", reason="needs openvino (pip install 'certify[cpu]')")
from certify.models.bundle import find_bundle, load_manifest
from certify.models.cost import BYTES, FLOP, Cost, cost_of, draw_cost, fitting_micro_batch
from certify.models.graph import load_openvino, read_graph

openvino = load_openvino()
ops = openvino.opset13


def model(result: Any, *inputs: Any) -> Any:
    return openvino.Model([ops.result(result)], list(inputs), "small")


def image(*shape: int) -> Any:
    return ops.parameter(shape, np.float32)


def weights(*shape: int) -> Any:
    return ops.constant(np.ones(shape, np.float32))


def test_a_convolution_by_hand() -> None:
    """2 * 5 maps of 6x4 * 3 channels * 3x3; 3 and 5 maps of 6x4 at once, then 5 and, after a relu, 5 again."""
    x = image(1, 3, 6, 4)
    made = ops.relu(ops.convolution(x, weights(5, 3, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1]))
    assert cost_of(model(made, x)) == Cost(2 * 5 * 24 * 27, 2 * 5 * 24 * 4)


def test_groups_products_and_attention_by_hand() -> None:
    x = image(1, 4, 6, 6)
    grouped = ops.group_convolution(x, weights(4, 1, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
    assert cost_of(model(grouped, x)).flop == 2 * 4 * 36 * 9
    x = image(1, 7, 3)
    assert cost_of(model(ops.matmul(x, weights(3, 5), False, False), x)).flop == 2 * 7 * 5 * 3
    assert cost_of(model(ops.matmul(x, weights(7, 5), True, False), x)).flop == 2 * 3 * 5 * 7
    q, k, v = image(1, 2, 8, 3), image(1, 2, 9, 3), image(1, 2, 9, 5)
    attended = cost_of(model(ops.scaled_dot_product_attention(q, k, v, causal=False), q, k, v))
    assert attended == Cost(2 * 2 * 8 * 9 * (3 + 5), (2 * 8 * 3 + 2 * 9 * 3 + 2 * 9 * 5 + 2 * 8 * 5 + 2 * 8 * 9) * 4)


def test_what_is_taken_later_lives_until_then_and_a_reshape_is_no_copy() -> None:
    """x waits for the sum at the end: three maps of 100 floats at once."""
    x = image(1, 100)
    late = ops.add(
        ops.relu(ops.reshape(ops.tanh(x), np.array([10, 10]), False)), ops.reshape(x, np.array([10, 10]), False)
    )
    assert cost_of(model(late, x)) == Cost(0, 3 * 400)


def test_the_digits_draw_is_what_torch_counts() -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from certify.models.networks import Graph, load_networks

    folder = find_bundle("digits")
    manifest = load_manifest(folder)
    denoiser, classifier = load_networks(folder, manifest).each(lambda net: net.float()).at(0.25)
    assert denoiser is not None
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        Graph(denoiser, classifier)(torch.zeros(1, 1, 8, 8), *(torch.ones(1) for _ in range(3)))
    cost = draw_cost(read_graph(folder, manifest), manifest)
    assert cost.flop == pytest.approx(counter.get_total_flops(), rel=0.02)  # group norms are small products here
    assert fitting_micro_batch(cost) == 64


@pytest.mark.parametrize(
    ("cost", "fits"),
    [
        (Cost(0, 0), 64),
        (Cost(int(FLOP / 64), BYTES // 64), 64),
        (Cost(int(FLOP / 63), 1), 32),
        (Cost(1, BYTES // 5), 4),
        (Cost(2_240_000_000_000, 1), 1),
        (Cost(1, 10 * BYTES), 1),
    ],
)
def test_a_micro_batch_fits_memory_and_patience(cost: Cost, fits: int) -> None:
    assert fitting_micro_batch(cost) == fits
