"""A bundle's two networks in torch: loaded, checked, and joined to one function."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from .bundle import Manifest
from .classifier import Classifier
from .denoiser import Denoiser
from .errors import BundleError
from .remote.declared import Remote
from .remote.preprocessing import Preprocessing

__all__ = ("Graph", "load_networks")


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


def load_networks(folder: Path, manifest: Manifest) -> tuple[Denoiser, Classifier | Preprocessing]:
    """The networks in `folder`, in evaluation mode and frozen. Raises BundleError if they are not the manifest's.

    In place of a classifier that is asked over the network stands what makes its pictures.
    """
    classifier: Classifier | Preprocessing
    if manifest.remote:
        classifier = Preprocessing(Remote.of(manifest.remote).input)
    else:
        classifier = Classifier.from_folder(folder / "classifier")
    denoiser = Denoiser.from_folder(folder)
    for network in (denoiser, classifier):
        network.eval().requires_grad_(False)
    low, high = denoiser.schedule.sigma_range
    for sigma in manifest.sigmas:
        if not low <= sigma <= high:
            raise BundleError(f"sigmas: expected values in the scheduler's range [{low:.4g}, {high:.4g}], got {sigma}")
    with torch.inference_mode():
        outputs = classifier(torch.zeros(1, *manifest.input_shape)).shape[1]
    if not manifest.remote and outputs != len(manifest.classes):
        raise BundleError(f"classes: expected {outputs} names, as the classifier has, got {len(manifest.classes)}")
    return denoiser, classifier
