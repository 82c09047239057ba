"""torch as an engine: on a CPU as it is, on a CUDA device compiled and replayed as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .denoiser import Denoiser
from .engines import TORCH
from .networks import Graph, Networks
from .noise import numpy_noise
from .noise_device import device_noise, law_tensors, signed
from .noise_laws import Law

__all__ = ("CudaEngine", "TorchEngine")


class TorchEngine:
    """The networks in `dtype` on a CPU, as they are."""

    name = TORCH

    def __init__(self, networks: Networks, *, dtype: str, device: str = "cpu") -> None:
        self.dtype = dtype
        self.device = device
        self._torch_dtype: torch.dtype = getattr(torch, dtype)
        # eval(): no layer may look at the other samples of a batch.
        self.networks = networks.each(lambda net: net.to(device, self._torch_dtype).eval().requires_grad_(False))
        by_parts = {parts: self._compiled(_joined(*parts)) for parts in map(self.networks.at, networks.classifiers)}
        # Noisy pixels and, where there is a denoiser, its constants -> logits.
        self._functions = {sigma: by_parts[self.networks.at(sigma)] for sigma in networks.classifiers}
        self._constants: dict[float, tuple[Tensor, ...]] = {}

    def _compiled(self, function: nn.Module) -> Callable[..., Tensor]:
        return function

    def place(self, pixels: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(pixels).to(self.device)

    def fetch(self, array: Tensor) -> NDArray[Any]:
        return array.cpu().numpy()

    def noise(self, law: Law, seed: int, first: int, count: int, shape: tuple[int, ...]) -> Tensor:
        return self.place(numpy_noise(law, seed, first, count, shape))

    def logits(self, noisy: Tensor, sigma: float) -> Tensor:
        constants = self._constants_at(sigma)
        with torch.inference_mode():
            return self._functions[sigma](noisy.to(self._torch_dtype), *constants).float()

    def denoised(self, noisy: Tensor, sigma: float) -> Tensor | None:
        denoiser, _ = self.networks.at(sigma)
        if denoiser is None:
            return None
        constants = self._constants_at(sigma)
        with torch.inference_mode():
            return denoiser.denoise_at(noisy.to(self._torch_dtype), *constants).float()

    def _constants_at(self, sigma: float) -> tuple[Tensor, ...]:
        if sigma not in self._constants:  # once: on CUDA a copy to the device stops its queue
            denoiser, _ = self.networks.at(sigma)
            constants = () if denoiser is None else denoiser.constants(sigma)
            self._constants[sigma] = tuple(torch.as_tensor(value, device=self.device) for value in constants)
        return self._constants[sigma]

    def plain(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = self.networks.plain(images.to(self._torch_dtype))
            return logits.float()

    def labels(self, logits: Tensor) -> Tensor:
        largest, labels = logits.max(dim=1)  # NaN if any logit is; the lowest place, as torch.max promises
        return torch.where(torch.isfinite(largest), labels, logits.shape[1])

    def counts(self, labels: Tensor, places: int) -> Tensor:
        return (labels[:, None] == torch.arange(places, device=labels.device)).sum(dim=0)


class CudaEngine(TorchEngine):
    """torch on a CUDA device: channels_last, compiled, replayed as CUDA graphs; noise is made there too.

    torch keeps its CUDA graphs for each thread by itself: therefore one thread of the engine's own drives the device.
    Callers only wait for what they copy back.
    """

    def __init__(self, networks: Networks, *, dtype: str, device: str = "cuda") -> None:
        super().__init__(networks, dtype=dtype, device=device)
        self._noise = torch.compile(device_noise, dynamic=False)
        self._laws: dict[Law, tuple[Tensor, Tensor]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="certify-cuda")

    def _compiled(self, function: nn.Module) -> Callable[..., Tensor]:
        return torch.compile(function.to(memory_format=torch.channels_last), mode="reduce-overhead", dynamic=False)

    def noise(self, law: Law, seed: int, first: int, count: int, shape: tuple[int, ...]) -> Tensor:
        def make() -> Tensor:
            if law not in self._laws:
                self._laws[law] = law_tensors(law, self.device)
            key = torch.tensor(signed(seed)).to(self.device, non_blocking=True)
            chunks = torch.arange(first, first + count).to(self.device, non_blocking=True)
            with torch.inference_mode():
                return self._noise(key, chunks, *self._laws[law], shape)

        return self._thread.submit(make).result()

    def logits(self, noisy: Tensor, sigma: float) -> Tensor:
        def run() -> Tensor:
            batch = noisy.contiguous(memory_format=torch.channels_last)
            # The sum makes NaN of a NaN, whatever the network made of it; and a copy: the next replay writes into the
            # same memory.
            logits = super(CudaEngine, self).logits(batch, sigma)
            return logits + 0 * noisy.sum(dim=(1, 2, 3)).reshape(-1, *(1,) * (logits.ndim - 1))

        return self._thread.submit(run).result()

    def denoised(self, noisy: Tensor, sigma: float) -> Tensor | None:
        return self._thread.submit(super().denoised, noisy, sigma).result()

    def plain(self, images: Tensor) -> Tensor:
        return self._thread.submit(super().plain, images).result()


def _joined(denoiser: Denoiser | None, classifier: nn.Module) -> nn.Module:
    return classifier if denoiser is None else Graph(denoiser, classifier)
