"""A bundle's networks in torch: loaded, checked, and joined to one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .bundle import Manifest
from .classifier import Classifier, NotInTorch
from .denoiser import Denoiser
from .errors import BundleError

if TYPE_CHECKING:
    from .remote.preprocessing import Preprocessing

__all__ = ("Graph", "Networks", "load_networks")


class Graph(nn.Module):
    """Noisy pixels and a scale's constants -> logits, in tensors alone: what is traced or compiled."""

    def __init__(self, denoiser: Denoiser, classifier: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.classifier = classifier

    def forward(self, noisy: Tensor, timestep: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """noisy: (N, C, H, W). The others: Denoiser.constants of one sigma, or (N,) each, one for each image."""
        logits: Tensor = self.classifier(self.denoiser.denoise_at(noisy, timestep, signal, noise))
        return logits


@dataclass(frozen=True)
class Networks:
    """What a bundle holds, for each of its sigmas."""

    denoiser: Denoiser | None
    # By sigma; often one object for all. Of one over the network: what makes its pictures.
    classifiers: Mapping[float, Classifier | Preprocessing]
    denoised: frozenset[float]  # sigmas at which the denoiser comes first

    @property
    def plain(self) -> Classifier | Preprocessing:
        """The finest scale's classifier."""
        return self.classifiers[min(self.classifiers)]

    def at(self, sigma: float) -> tuple[Denoiser | None, Classifier | Preprocessing]:
        """What a noisy image of that scale goes through."""
        return self.denoiser if sigma in self.denoised else None, self.classifiers[sigma]

    def each(self, change: Callable[[nn.Module], object]) -> Networks:
        """These, when `change` has been called on each once, in place."""
        for network in dict.fromkeys((self.denoiser, *self.classifiers.values())):
            if network is not None:
                change(network)
        return self


def load_networks(folder: Path, manifest: Manifest) -> Networks:
    """The networks in `folder`, in evaluation mode and frozen. Raises BundleError if they are not the manifest's."""
    denoiser = Denoiser.from_folder(folder) if manifest.denoised_sigmas else None
    by_name = {name: _classifier(folder / name, manifest) for name in dict.fromkeys(manifest.classifiers.values())}
    classifiers = {sigma: by_name[name] for sigma, name in manifest.classifiers.items()}
    networks = Networks(denoiser, classifiers, frozenset(manifest.denoised_sigmas))
    networks.each(lambda net: net.eval().requires_grad_(False))
    if denoiser is not None:
        _check_range(denoiser, manifest)
    for name, classifier in by_name.items():
        if not isinstance(classifier, Classifier) or isinstance(classifier.net, NotInTorch):
            continue  # its answers are seen where it is asked, or where OpenVINO has it
        with torch.inference_mode():
            outputs = classifier(torch.zeros(1, *manifest.input_shape)).shape[1]
        if outputs != len(manifest.classes):
            raise BundleError(
                f"classes: expected {outputs} names, as {folder / name} has outputs, got {len(manifest.classes)}"
            )
    return networks


def _classifier(folder: Path, manifest: Manifest) -> Classifier | Preprocessing:
    if not manifest.remote:
        return Classifier.from_folder(folder)
    from .remote.declared import Remote  # here: an export for Triton, which has none, goes without
    from .remote.preprocessing import Preprocessing

    return Preprocessing(Remote.of(manifest.remote).input)


def _check_range(denoiser: Denoiser, manifest: Manifest) -> None:
    low, high = denoiser.schedule.sigma_range
    for sigma in manifest.denoised_sigmas:
        if not low <= sigma <= high:
            raise BundleError(f"sigmas: expected values in the scheduler's range [{low:.4g}, {high:.4g}], got {sigma}")
