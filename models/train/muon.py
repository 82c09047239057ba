"""AdamW, and Muon for weight matrices where a run asks for it.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) steps along the momentum's nearest orthogonal
matrix, in which every direction has the same length: a network this small is done in half the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .config import Optimisation

__all__ = ("Muon", "build_optimizer", "orthogonal")

MOMENTUM = 0.95  # the author's
# The author's odd polynomial, five times: it sends singular values of (0, 1] near 1, and small ones there fastest.
COEFFICIENTS, ROUNDS = (3.4445, -4.7750, 2.0315), 5


def build_optimizer(parameters: Sequence[nn.Parameter], config: Optimisation) -> torch.optim.AdamW:
    """Of all parameters; with a muon_rate, of those that are matrices or convolutions by Muon."""
    settings: dict[str, Any] = {
        "lr": config.learning_rate, "betas": (0.9, config.beta2), "weight_decay": config.weight_decay,
    }  # fmt: skip
    if not config.muon_rate:
        return torch.optim.AdamW(parameters, **settings)
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    scale = config.muon_rate / config.learning_rate
    return Muon([{"params": others, "scale": 0.0}, {"params": matrices, "scale": scale}], **settings)


class Muon(torch.optim.AdamW):
    """Groups with a "scale" above 0 go by Muon, at scale times the group's rate; the others by AdamW."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step. Gradients of Muon's groups are gone afterwards: AdamW passes over them."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            if group["scale"]:
                self._turn([weight for weight in group["params"] if weight.grad is not None], group)
        super().step()
        return loss

    def _turn(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Weights of one shape at once: on a GPU the many small products would wait for each other's launch."""
        ahead: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
        for weight in weights:
            state, gradient = self.state[weight], weight.grad
            assert gradient is not None
            if not state:  # AdamW, reading a checkpoint, expects a "step" in every state
                state.update(step=torch.zeros(()), momentum=torch.zeros_like(weight))
            state["step"] += 1
            momentum: Tensor = state["momentum"]
            momentum.lerp_(gradient, 1 - MOMENTUM)
            matrix = torch.lerp(gradient, momentum, MOMENTUM).flatten(1)  # Nesterov's
            ahead.setdefault((matrix.shape[0], matrix.shape[1]), []).append((weight, matrix))
            weight.grad = None
        for (height, width), pairs in ahead.items():
            # Wide matrices' entries are small by themselves; tall ones are stretched as the author does.
            rate = group["lr"] * group["scale"] * max(1.0, height / width) ** 0.5
            turned = orthogonal(torch.stack([matrix for _, matrix in pairs]))
            for (weight, _), step in zip(pairs, turned, strict=True):
                weight.add_(step.view_as(weight), alpha=-rate)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest orthogonal matrices, (..., N, M) -> (..., N, M): singular values end between .7 and 1.2.

    Newton-Schulz in the small Gram matrix: X -> (a + b A + c A^2) X with A = X X^T, whose factors all commute, so that
    the long side is multiplied twice, not eleven times.
    """
    if matrix.shape[-2] > matrix.shape[-1]:
        return orthogonal(matrix.mT).mT
    matrix = matrix / matrix.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    gram = matrix @ matrix.mT
    unit = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    a, b, c = COEFFICIENTS
    whole = unit
    for _ in range(ROUNDS):
        factor = a * unit + b * gram + c * gram @ gram
        whole = factor @ whole
        gram = factor @ gram @ factor
    return whole @ matrix
