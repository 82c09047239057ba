"""torchvision's networks, by a state dict and torchvision:NAME."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.models import get_model

from certify.models.classifier import Classifier
from certify.models.classifiers import Told, take

SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a small one with five classes, saved from DataParallel beside other things."""
    torch.manual_seed(0)
    net = torch.nn.DataParallel(get_model("shufflenet_v2_x0_5", weights=None, num_classes=5))
    path = tmp_path_factory.mktemp("torchvision") / "checkpoint.pth.tar"
    torch.save({"epoch": 1, "state_dict": net.state_dict(), "optimizer": {"lr": 0.1}}, path)
    return path


def test_its_own_transforms_are_the_default_and_options_change_them(weights: Path, tmp_path: Path) -> None:
    name = "torchvision:shufflenet_v2_x0_5"
    taken = take(str(weights), tmp_path / "a", SHAPE, Told(architecture=name))
    told = taken.preprocessing
    assert (told.input_size, told.interpolation, told.mean) == ((3, 224, 224), "bilinear", (0.485, 0.456, 0.406))
    assert (taken.library, taken.outputs) == ("torchvision", 5)
    taken = take(str(weights), tmp_path / "b", SHAPE, Told(architecture=name, input_size=(32, 32), mean=(0.5,)))
    assert (taken.preprocessing.input_size, taken.preprocessing.mean) == ((3, 32, 32), (0.5,) * 3)


def test_its_logits_are_the_networks(weights: Path, tmp_path: Path) -> None:
    told = Told(architecture="torchvision:shufflenet_v2_x0_5", input_size=(32, 32), mean=(0.0,), std=(1.0,))
    take(str(weights), tmp_path / "a", SHAPE, told)
    net = get_model("shufflenet_v2_x0_5", weights=None, num_classes=5).eval()
    state = torch.load(weights, weights_only=True)["state_dict"]
    net.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(Classifier.from_folder(tmp_path / "a").eval()(x), net(x))
