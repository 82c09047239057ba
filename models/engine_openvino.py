"""OpenVINO as an engine, and the two networks in operators that suit it."""

from __future__ import annotations

import sys
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .classifier import Classifier
from .denoiser import Denoiser
from .engines import Graph, numpy_noise
from .noise import CPU_GENERATOR

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("OpenVinoEngine", "openvino_dtype")


class OpenVinoEngine:
    """OpenVINO on this CPU: `streams` batches at once, each computed by one thread.

    One thread for each stream, whatever their number: OpenVINO's bfloat16 results depend on how many share a batch.
    Where the CPU has no bfloat16 of its own, `dtype` is float32, whatever was asked for (`openvino_dtype`). The plain
    classifier stays in torch, in float32: one forward for each request is not worth a second compiled graph.
    """

    name = "openvino"
    generator = CPU_GENERATOR

    def __init__(
        self,
        denoiser: Denoiser,
        classifier: Classifier,
        *,
        dtype: str,
        batch: int,
        shape: tuple[int, ...],
        streams: int,
    ) -> None:
        """batch and shape (C, H, W): of every call. streams: batches computed at once; more threads may call."""
        openvino = _openvino()
        self.dtype = openvino_dtype(dtype)
        self.device = torch.device("cpu")
        self.denoiser = denoiser.float().eval().requires_grad_(False)
        self.classifier = classifier.float().eval().requires_grad_(False)
        self._batch = batch
        example = (torch.zeros(batch, *shape), *(torch.ones(batch) for _ in range(3)))
        model = openvino.convert_model(
            _traced(Graph(self.denoiser, self.classifier), example, pooled_norms=self.dtype == "bfloat16"),
            example_input=example,
            input=[list(x.shape) for x in example],  # static: the same graph is three times slower over any shape
        )
        precision = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}[self.dtype]
        self._compiled = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams,
                # Several processes, as Triton's instances, would each be pinned to the same first cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        ran = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        if ran != precision:  # an answer names the dtype, and must not name another than ran
            raise RuntimeError(f"openvino: expected to run in {precision}, got {ran}")
        self._requests = threading.local()  # a request has its own buffers
        self._constants: dict[float, list[NDArray[np.float32]]] = {}

    def noise(self, seed: int, first: int, count: int, shape: tuple[int, ...]) -> Tensor:
        return numpy_noise(seed, first, count, shape)

    def logits(self, noisy: Tensor, sigma: float) -> Tensor:
        if not hasattr(self._requests, "one"):
            self._requests.one = self._compiled.create_infer_request()
        if sigma not in self._constants:
            found = self.denoiser.constants(sigma)
            self._constants[sigma] = [np.full(self._batch, value, dtype=np.float32) for value in found]
        (logits,) = self._requests.one.infer([noisy.numpy(), *self._constants[sigma]], share_inputs=True).values()
        return torch.from_numpy(np.array(logits))  # a copy: the request's buffer is written again

    def plain(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = self.classifier(images)
            return logits


def openvino_dtype(wanted: str) -> str:
    """What OpenVINO runs a bundle of dtype `wanted` in on this CPU: bfloat16 only where the CPU has instructions."""
    able = "BF16" in _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return wanted if wanted != "bfloat16" or able else "float32"


def _openvino() -> Any:
    # It would report every start to its makers over the network; openvino does without it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _traced(graph: Graph, example: tuple[Tensor, ...], *, pooled_norms: bool) -> torch.jit.ScriptModule:
    """By torch.jit.trace: an exported program reaches OpenVINO with its shapes forgotten, and takes twice as long."""
    with _traceable(graph, pooled_norms), torch.inference_mode(), warnings.catch_warnings():
        # Deprecated; and the UNet asks about shapes in Python, which are the same here at every call.
        for kind in (FutureWarning, DeprecationWarning, torch.jit.TracerWarning):  # type: ignore[attr-defined]
            warnings.simplefilter("ignore", kind)
        return torch.jit.trace(graph, example, check_trace=False)  # type: ignore[no-untyped-call, no-any-return]


@contextmanager
def _traceable(graph: Graph, pooled_norms: bool) -> Iterator[None]:
    """The same function in operators that suit OpenVINO, while it is traced."""
    layers = [(parent, name, child) for parent in graph.modules() for name, child in parent.named_children()]
    replaced = [(parent, name, child, other) for parent, name, child in layers
                if (other := _other(child, pooled_norms)) is not None]  # fmt: skip
    for parent, name, _, other in replaced:
        setattr(parent, name, other)
    try:
        yield
    finally:
        for parent, name, child, _ in replaced:
            setattr(parent, name, child)


def _other(layer: nn.Module, pooled_norms: bool) -> nn.Module | None:
    if isinstance(layer, nn.AvgPool2d) and layer.ceil_mode and not layer.count_include_pad:
        return _PoolOrNothing(layer)
    if isinstance(layer, nn.GroupNorm) and layer.affine and pooled_norms:
        return _PooledGroupNorm(layer)
    return None


class _PoolOrNothing(nn.Module):
    """OpenVINO refuses a pool of 2 over a map of 1, rounded up, which timm's ResNets have at 8x8: it does nothing."""

    def __init__(self, pool: nn.AvgPool2d) -> None:
        super().__init__()
        self._pool = pool

    def forward(self, x: Tensor) -> Any:
        if x.shape[2:] == (1, 1) and self._pool.kernel_size in (2, (2, 2)):
            return x  # the mean of the one value there is
        return self._pool(x)


class _PooledGroupNorm(nn.Module):
    """Group norm as means over a map, then over a group's channels: the convolutions' layout all through.

    OpenVINO's own goes back to (N, C, H, W) for each norm, where its bfloat16 activations are slow on small maps: twice
    the time of the digits' networks. In float32 it gains nothing. Two passes, as in torch: the mean of squares less the
    square of the mean would lose what bfloat16 keeps of it.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self._norm = norm
        each = norm.num_channels // norm.num_groups
        # (C, C): each channel of a group gets the mean of them all
        self._means = torch.kron(torch.eye(norm.num_groups), torch.full((each, each), 1.0 / each))

    def forward(self, x: Tensor) -> Tensor:
        mean = functional.linear(x.mean((2, 3)), self._means)
        deviation = x - mean[:, :, None, None]
        variance = functional.linear((deviation * deviation).mean((2, 3)), self._means)
        scale = torch.rsqrt(variance + self._norm.eps) * self._norm.weight
        return x * scale[:, :, None, None] + (self._norm.bias - mean * scale)[:, :, None, None]
