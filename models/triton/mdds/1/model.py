"""Triton's `mdds` model: votes of a stream's part. Thin: it unpacks requests, calls the pipeline, packs votes.

Each request (batch 1) has IMAGE FP32 (C, H, W), SIGMA FP64, SEED UINT64, FIRST INT64, COUNT INT32 and gets VOTES INT64
(K,). COUNT = 0 asks for the plain classifier: its class has the one vote. On a CPU a micro-batch belongs to one
request, and each instance is a process with one thread; two processes share no interpreter lock.

Tensors go in and out by DLPack: NVIDIA's stub was built for numpy 1, and with numpy 2 beside it `as_numpy()` reads
zeros without an error. torch is imported where the engine is torch's.

The export puts what this needs of certify.models, and the bundle, beside this file; certify.service is not there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from certify.models.noise import GENERATOR  # noqa: E402
from certify.models.pipeline import Cancelled, Pipeline  # noqa: E402
from certify.models.runtime import RuntimeOptions, limit_threads, load_pipeline  # noqa: E402


class TritonPythonModel:
    """The name and the methods are Triton's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load and verify the bundle. Raises what load_pipeline raises; Triton then does not serve the model."""
        facts = json.loads(json.loads(args["model_config"])["parameters"]["certify"]["string_value"])
        runtime = facts["runtime"]
        limit_threads(runtime["engine"])
        options = RuntimeOptions(
            device=runtime["device"], engine=runtime["engine"], micro_batch=facts["grain"], workers=1
        )
        self.pipeline: Pipeline = load_pipeline(HERE / "bundle", options)
        self.identity: str = facts["identity"]
        engine = self.pipeline.engine
        ours = (self.pipeline.manifest.digest, engine.name, GENERATOR, engine.dtype)
        stated = (facts["bundle"]["digest"], runtime["engine"], runtime["generator"], runtime["dtype"])
        if ours != stated:
            raise RuntimeError(f"config.pbtxt speaks of {stated}, but here runs {ours}; export the bundle again")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request by itself: one that is wrong, or given up, spoils nothing for the others."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            votes = self._votes(request)
        except Cancelled:
            return _error("the request was cancelled", pb_utils.TritonError.CANCELLED)
        except ValueError as error:
            return _error(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:  # the stub would die of it, and every other request with it
            return _error(f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)
        tensor = pb_utils.Tensor.from_dlpack("VOTES", votes[None])
        return pb_utils.InferenceResponse(output_tensors=[tensor])

    def _votes(self, request: Any) -> NDArray[np.int64]:
        """int64 (K,)."""
        pipeline, manifest = self.pipeline, self.pipeline.manifest
        wanted = json.loads(request.parameters() or "{}").get("identity", self.identity)
        if wanted != self.identity:
            raise ValueError(f"identity: this replica runs {self.identity}, the request is for {wanted}")
        pixels = np.array(_tensor(request, "IMAGE")[0])
        sigma, seed, first, count = (_scalar(request, name) for name in ("SIGMA", "SEED", "FIRST", "COUNT"))
        _require(pixels.shape == manifest.input_shape, "IMAGE", f"shape {manifest.input_shape}", pixels.shape)
        low, high = float(pixels.min()), float(pixels.max())  # NaN if any value is, and NaN is in no range
        _require(0 <= low and high <= 1, "IMAGE", "finite values in [0, 1]", f"{low:g} to {high:g}")
        votes = np.zeros(len(manifest.classes), dtype=np.int64)
        if count == 0:
            votes[pipeline.classify(pixels)] = 1
            return votes
        _require(sigma in manifest.sigmas, "SIGMA", f"one of {list(manifest.sigmas)}", sigma)
        for part in pipeline.parts(
            pixels, sigma=sigma, seed=seed, first=first, count=count, cancelled=request.is_cancelled
        ):
            votes += part
        return votes


def _require(condition: bool, name: str, expected: str, got: object) -> None:
    if not condition:
        raise ValueError(f"{name}: expected {expected}, got {got}")


def _tensor(request: Any, name: str) -> NDArray[Any]:
    return np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name))


def _scalar(request: Any, name: str) -> Any:
    """The one value of a (1, 1) tensor, exactly: float for FP64, int for the integers, SEED's upper half included."""
    return _tensor(request, name).reshape(()).item()


def _error(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
