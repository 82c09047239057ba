"""What computes the logits of noisy images: one interface, an engine for each way to run the two networks.

    torch      a CPU, as it is; a CUDA device: compiled with CUDA graphs at the one shape that the pipeline asks for
    openvino   a CPU: the bundle's graph, without torch; several times torch's speed (docs/performance.md)

An engine's votes are a function of its own: engines differ in the last bits of a logit, and so, now and then, in a
vote. That is why an answer names engine and dtype, and why replicas that differ are refused. Within an engine a
sample's logits may depend on nothing but the batch's shape and the sample's place: one thread computes a batch.

Nothing here imports torch.
"""

from __future__ import annotations

import importlib.util
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .noise_laws import Law

__all__ = ("ENGINES", "OPENVINO", "TORCH", "Elsewhere", "Engine", "default_engine", "libraries_of")

ENGINES = ("torch", "openvino")  # as they are asked for
# As answers report them: a number after it rises when the last bits of its votes change.
TORCH = "torch"
OPENVINO = "openvino-graph-1"


def default_engine(device: str) -> Literal["torch", "openvino"]:
    """The fastest one that is installed: OpenVINO on a CPU, else torch."""
    return "openvino" if device == "cpu" and importlib.util.find_spec("openvino") else "torch"


def libraries_of(engine: str) -> dict[str, str]:
    """Versions of the packages that move the last bits of a vote: engine's, as answers report it, and the noise's."""
    packages = ("numpy", "openvino") if engine.startswith(OPENVINO) else ("diffusers", "numpy", "timm", "torch")
    return {package: found for package in packages if (found := _version(package))}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a classifier of another library than timm's needs no timm
        return None


class Engine(Protocol):
    """Safe to call from several threads.

    Its arrays stay where it computes: numpy's, or torch's on `device`. Nobody else looks into them.
    """

    name: str  # TORCH or OPENVINO, or with the name of what runs elsewhere
    dtype: str  # "float32" or "bfloat16": what really runs, whatever the manifest hoped for
    device: str  # "cpu" or "cuda"

    def place(self, pixels: NDArray[np.float32]) -> Any:
        """An array like its own, of the same shape and values."""

    def fetch(self, array: Any) -> NDArray[Any]:
        """The reverse of `place`, for any dtype; waits for what is being computed."""

    def noise(self, law: Law, seed: int, first: int, count: int, shape: tuple[int, ...]) -> Any:
        """models.noise.numpy_noise where it computes, or NaN in place of a value that it leaves to numpy_noise."""

    def logits(self, noisy: Any, sigma: float) -> Any:
        """float32 (N, K), or what `labels` reads instead, of noisy pixels, float32 (N, C, H, W); N is always the same.

        sigma: one of the bundle's. Those of a sample with a NaN are not finite.
        """

    def denoised(self, noisy: Any, sigma: float) -> Any | None:
        """float32 (1, C, H, W) in [0, 1], of one noisy image; None at a scale without a denoiser. To be looked at:
        no vote comes of it.
        """

    def plain(self, images: Any) -> Any:
        """float32 (N, K): the classifier alone, on clean images in [0, 1]."""

    def labels(self, logits: Any) -> Any:
        """(N, K) -> int64 (N,): the largest logit's place, ties to the lowest; K where one is not finite: no vote."""

    def counts(self, labels: Any, places: int) -> Any:
        """int64 (places,): how often 0..places-1 is among them."""


@runtime_checkable
class Elsewhere(Protocol):
    """What an engine has besides, if a part of it runs elsewhere: its calls cost, and nobody here says what it is."""

    @property
    def outdated(self) -> bool:
        """Whether what runs there is no longer what was found when it was opened."""

    def close(self) -> None:
        """Give up what is asked there; a second call does nothing."""
