"""OpenVINO as an engine: it runs a bundle's graph, and needs no torch for it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Manifest
from .engines import OPENVINO
from .errors import BundleError
from .graph import Scale, classifier_of, denoiser_of, load_openvino, read_graph, scales_of, whole_of
from .noise import numpy_noise
from .noise_laws import Law
from .schedule import signal_and_noise

__all__ = ("OpenVinoEngine", "cpu_facts", "graph_of", "openvino_dtype")


def graph_of(folder: Path, manifest: Manifest) -> tuple[Any, dict[float, Scale]]:
    """The bundle's graph, an openvino.Model, and what of it runs at each sigma. Raises BundleError.

    A bundle of format 1 has none: it is made here and now, by torch.
    """
    if manifest.has_graph:
        model, timesteps = read_graph(folder, manifest), manifest.timesteps
    else:
        try:
            from .convert import converted
        except ImportError as error:
            raise BundleError(
                f"{folder}: expected a graph; a bundle without one needs torch (pip install 'certify[cpu,torch]'), "
                f"where `certify bundles upgrade` writes it: {error}"
            ) from error
        model, timesteps = converted(folder, manifest)
    return model, scales_of(manifest, timesteps)


class OpenVinoEngine:
    """OpenVINO on this CPU: `streams` batches at once, each computed by one thread.

    One thread for each stream, whatever their number: OpenVINO's bfloat16 results depend on how many share a batch.
    Where the CPU has no bfloat16 of its own, `dtype` is float32, whatever was asked for (`openvino_dtype`). The plain
    classifier is always float32: it decides once for each request.
    """

    name = OPENVINO
    device = "cpu"

    def __init__(self, model: Any, scales: Mapping[float, Scale], *, dtype: str, batch: int, streams: int) -> None:
        """model, scales: as graph_of gives them. batch: of every call. streams: batches computed at once; more threads
        may call."""
        self.dtype = openvino_dtype(dtype)
        self._model = model
        self._logits = scales[min(scales)].logits  # the plain classifier's
        networks: dict[tuple[str, bool], _Compiled] = {}
        self._at: dict[float, tuple[_Compiled, list[NDArray[np.float32]]]] = {}
        for sigma, (logits, timestep) in scales.items():
            key = logits, timestep is None
            if key not in networks:
                part = (whole_of if timestep is not None else classifier_of)(model, batch, logits)
                networks[key] = _Compiled(part, self.dtype, streams)
            constants = () if timestep is None else (timestep, *signal_and_noise(sigma))
            self._at[sigma] = networks[key], [np.full(batch, value, dtype=np.float32) for value in constants]
        self._denoiser: _Compiled | None = None  # made when a picture is first asked for
        self._plain: dict[int, _Compiled] = {}  # by the number of images
        self._making = threading.Lock()

    def place(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return pixels

    def fetch(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def noise(self, law: Law, seed: int, first: int, count: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return numpy_noise(law, seed, first, count, shape)  # none is left open

    def logits(self, noisy: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
        network, constants = self._at[sigma]
        return network([noisy, *constants])

    def denoised(self, noisy: NDArray[np.float32], sigma: float) -> NDArray[np.float32] | None:
        _, constants = self._at[sigma]
        if not constants:
            return None
        with self._making:
            if self._denoiser is None:
                self._denoiser = _Compiled(denoiser_of(self._model), self.dtype, streams=1)
        return self._denoiser([noisy, *(values[:1] for values in constants)])

    def plain(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._making:
            if len(images) not in self._plain:
                part = classifier_of(self._model, len(images), self._logits)
                self._plain[len(images)] = _Compiled(part, "float32", streams=1)
        return self._plain[len(images)]([images])

    def labels(self, logits: NDArray[np.float32]) -> NDArray[np.int64]:
        usable = np.isfinite(logits.max(axis=1))  # NaN if any logit is
        labels: NDArray[np.int64] = np.where(usable, logits.argmax(axis=1), logits.shape[1])
        return labels

    def counts(self, labels: NDArray[np.int64], places: int) -> NDArray[np.int64]:
        return np.bincount(labels, minlength=places)


class _Compiled:
    """A model of fixed shapes and one output. Safe to call from several threads."""

    def __init__(self, model: Any, dtype: str, streams: int) -> None:
        openvino = load_openvino()
        precision = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16}[dtype]
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

    def __call__(self, inputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        if not hasattr(self._requests, "one"):
            self._requests.one = self._compiled.create_infer_request()
        (output,) = self._requests.one.infer(inputs, share_inputs=True).values()
        return np.array(output)  # a copy: the request's buffer is written again


def openvino_dtype(wanted: str) -> str:
    """What OpenVINO runs a bundle of dtype `wanted` in on this CPU: bfloat16 only where the CPU has instructions."""
    able = "BF16" in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return wanted if wanted != "bfloat16" or able else "float32"


def cpu_facts() -> list[str]:
    """What of this CPU OpenVINO compiles for: its name and the types it has instructions for."""
    core = load_openvino().Core()
    return [
        core.get_property("CPU", "FULL_DEVICE_NAME"),
        *sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
    ]
