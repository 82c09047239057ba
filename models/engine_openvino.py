"""OpenVINO as an engine."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .classifier import Classifier
from .denoiser import Denoiser
from .engines import Graph, numpy_noise
from .noise import CPU_GENERATOR
from .traceable import traced

__all__ = ("OpenVinoEngine", "cpu_facts", "openvino_dtype")


class OpenVinoEngine:
    """OpenVINO on this CPU: `streams` batches at once, each computed by one thread.

    One thread for each stream, whatever their number: OpenVINO's bfloat16 results depend on how many share a batch.
    Where the CPU has no bfloat16 of its own, `dtype` is float32, whatever was asked for (`openvino_dtype`). The plain
    classifier stays in torch, in float32: one forward for each request is not worth a second compiled graph.
    """

    name = "openvino-2"  # 2: other group norms, which move the last bits of a logit
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
            traced(Graph(self.denoiser, self.classifier), example),
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
            constants = self.denoiser.constants(sigma)
            self._constants[sigma] = [np.full(self._batch, value, dtype=np.float32) for value in constants]
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


def cpu_facts() -> list[str]:
    """What of this CPU OpenVINO compiles for: its name and the types it has instructions for."""
    core = _openvino().Core()
    return [
        core.get_property("CPU", "FULL_DEVICE_NAME"),
        *sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
    ]


def _openvino() -> Any:
    # It would report every start to its makers over the network; openvino does without it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
