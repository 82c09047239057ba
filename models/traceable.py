"""A graph as OpenVINO likes it: traced by torch, with some operators written in others of the same function."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ("ForOpenVino", "pooled_group_norm", "traced")


def traced(graph: nn.Module, example: tuple[Tensor, ...]) -> torch.jit.ScriptModule:
    """By torch.jit.trace: an exported program reaches OpenVINO with its shapes forgotten, and takes twice as long."""
    with ForOpenVino(), torch.inference_mode(), warnings.catch_warnings():
        # Deprecated; and the UNet asks about shapes in Python, which are the same here at every call.
        for kind in (FutureWarning, DeprecationWarning, torch.jit.TracerWarning):  # type: ignore[attr-defined]
            warnings.simplefilter("ignore", kind)
        return torch.jit.trace(graph, example, check_trace=False)  # type: ignore[no-untyped-call, no-any-return]


def pooled_group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """torch's group_norm, of (N, C, ...) in any rank, as means over a map, then over a group's channels.

    OpenVINO's own operator kills the process where diffusers' scale_shift multiplies and adds after it, and goes back
    to (N, C, H, W) each time, where bfloat16 is slow on small maps: twice the time of the digits' networks. In float32
    this is as fast on the digits and faster on larger maps. Two passes, as in torch: the mean of squares less the
    square of the mean would lose what bfloat16 keeps of it.
    """
    places = tuple(range(2, input.ndim))
    spread = (..., *(None for _ in places))  # (N, C) beside (N, C, ...)
    size = int(input.shape[1]) // num_groups  # int: a trace has a tensor there
    # (C, C): each channel of a group gets the mean of them all. By numpy, so that the trace has it as a constant.
    groups = np.kron(np.eye(num_groups), np.full((size, size), 1.0 / size)).astype(np.float32)
    matrix = torch.from_numpy(groups).to(input.dtype)

    def means(values: Tensor) -> Tensor:
        return functional.linear(values.mean(places) if places else values, matrix)

    mean = means(input)
    deviation = input - mean[spread]
    scale = torch.rsqrt(means(deviation * deviation) + eps)
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return input * scale[spread] + shift[spread]


class ForOpenVino(TorchFunctionMode):
    """Takes the place of functions, not of layers: in every library that calls them, and in this thread alone."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        # torch's layer, timm's with an activation and diffusers' with an embedding all call it
        if func is functional.group_norm:
            func = pooled_group_norm
        elif func is functional.avg_pool2d:
            func = _avg_pool2d
        return func(*args, **(kwargs or {}))


def _avg_pool2d(
    input: Tensor,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """OpenVINO refuses a pool larger than its map, rounded up: the mean of the whole map.

    timm's ResNets have one of 2 over a map of 1 at 8x8, transformers' EfficientNet one of its width at its end.
    """
    sides = tuple(int(side) for side in input.shape[2:])  # int: a trace has tensors there
    kernel = (kernel_size,) * 2 if isinstance(kernel_size, int) else tuple(kernel_size)
    covers = all(k >= side for k, side in zip(kernel, sides, strict=True)) and kernel != sides
    if covers and ceil_mode and padding in (0, (0, 0)) and divisor_override is None:
        return input if sides == (1, 1) else input.mean((2, 3), keepdim=True)
    return functional.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
