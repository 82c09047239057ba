"""What a draw costs, counted on a bundle's graph: arithmetic and memory, the same on every machine.

Counted and not timed, because a bundle's chunk and micro-batch follow from it, and with them its digest.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .bundle import Manifest
from .graph import classifier_of, logits_of, whole_of

__all__ = ("LARGEST", "Cost", "cost_of", "draw_cost", "fitting_micro_batch")

LARGEST = 64  # samples: a CPU's default micro-batch (models.runtime)
# For each micro-batch in flight, and there is one for each core. With 64 samples, OpenAI's ImageNet network would have
# one tensor of 8.6 GB.
BYTES = 256 * 2**20
# One to three seconds of one core: what a request waits for when it is cut off, and the least that a look costs.
FLOP = 64e9
ALIASES = {"Reshape", "Squeeze", "Unsqueeze"}  # the same memory under another shape
ATTENTION = "ScaledDotProductAttention"

Tensor = tuple[str, int]  # an operation's name, and which of its outputs


class Cost(NamedTuple):
    """Of one sample."""

    flop: int  # of convolutions, products of matrices and attention; a multiply-add is 2
    bytes: int  # that live at once, at most, beside the weights


def draw_cost(model: Any, manifest: Manifest) -> Cost:
    """The dearest scale's. model: the bundle's graph, of any N."""
    parts = []
    for sigma, logits in logits_of(manifest).items():
        part = whole_of if sigma in manifest.denoised_sigmas else classifier_of
        parts.append(cost_of(part(model, 1, logits)))
    return Cost(*map(max, zip(*parts, strict=True)))


def fitting_micro_batch(cost: Cost) -> int:
    """Samples to compute together: 64, or the largest power of 2 below that keeps to BYTES and FLOP; at least 1."""
    most = min(LARGEST, BYTES / max(1, cost.bytes), FLOP / max(1, cost.flop))
    return 2 ** max(0, math.floor(math.log2(most)))


def cost_of(model: Any) -> Cost:
    """Of an openvino.Model of fixed shapes, all of it."""
    operations = _not_of_weights_alone(model.get_ordered_ops())
    root: dict[Tensor, Tensor] = {}  # whose memory a tensor is
    used: dict[Tensor, int] = {}  # by its last user
    for number, operation in enumerate(operations):
        sources = [root[source] for source in _inputs(operation) if source in root]
        for tensor in _outputs(operation):
            root[tensor] = sources[0] if operation.get_type_name() in ALIASES and sources else tensor
            sources.append(root[tensor])  # what nobody takes lives while it is made
        used.update(dict.fromkeys(sources, number))
    flop, peak = 0, 0
    held: dict[Tensor, int] = {}
    for number, operation in enumerate(operations):
        flop += _flop(operation)
        held.update({tensor: n for tensor, n in _outputs(operation).items() if root[tensor] == tensor})
        peak = max(peak, sum(held.values()) + _scratch(operation))
        held = {tensor: n for tensor, n in held.items() if used[tensor] > number}
    return Cost(flop, peak)


def _not_of_weights_alone(operations: list[Any]) -> list[Any]:
    """Without constants, and what widens or reshapes them: that is done once, when the model is compiled."""
    fixed, rest = set(), []
    for operation in operations:
        sources = [name for name, _ in _inputs(operation)]
        if operation.get_type_name() == "Constant" or (sources and fixed.issuperset(sources)):
            fixed.add(operation.get_friendly_name())
        else:
            rest.append(operation)
    return rest


def _inputs(operation: Any) -> list[Tensor]:
    return [(port.get_node().get_friendly_name(), port.get_index()) for port in operation.input_values()]


def _outputs(operation: Any) -> dict[Tensor, int]:
    """Their sizes in bytes."""
    name = operation.get_friendly_name()
    return {(name, port.get_index()): _count(port) * port.get_element_type().size for port in operation.outputs()}


def _count(port: Any) -> int:
    return math.prod(port.get_shape())


def _flop(operation: Any) -> int:
    kind = operation.get_type_name()
    if kind not in ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul", ATTENTION):
        return 0
    one, other, *_ = (list(port.get_shape()) for port in operation.input_values())
    (made,) = (_count(port) for port in operation.outputs())
    match kind:
        case "Convolution":  # weights (out, in, kernel)
            return 2 * made * math.prod(other[1:])
        case "GroupConvolution":  # (groups, out, in, kernel)
            return 2 * made * math.prod(other[2:])
        case "ConvolutionBackpropData":  # (in, out, kernel)
            return 2 * math.prod(one) * math.prod(other[1:])
        case "MatMul":
            inner = -2 if operation.get_attributes().get("transpose_a") and len(one) > 1 else -1
            return 2 * made * one[inner]
        case _:  # queries (..., L, E), keys (..., S, E), values (..., S, F)
            return 2 * math.prod(one[:-1]) * other[-2] * one[-1] + 2 * made * other[-2]


def _scratch(operation: Any) -> int:
    """Bytes that an operation takes while it runs: attention's scores."""
    if operation.get_type_name() != ATTENTION:
        return 0
    queries, keys, *_ = (list(port.get_shape()) for port in operation.input_values())
    return int(math.prod(queries[:-1]) * keys[-2] * 4)
