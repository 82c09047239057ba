"""A classifier behind [0, 1] pixels: what models.preprocessing tells, then the network's logits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import BundleError
from .preprocessing import Library, Preprocessing, read_record

__all__ = ("ONNX", "Classifier", "Logits", "NotInTorch", "quiet_transformers")

ONNX = "model.onnx"  # in the bundle's classifier/


class Classifier(nn.Module):
    """(N, C, H, W) in [0, 1] -> logits (N, K)."""

    mean: Tensor  # (1, C, 1, 1)
    std: Tensor

    def __init__(self, net: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.net = net
        self.preprocessing = preprocessing
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name), dtype=torch.float32)
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)

    @classmethod
    def from_folder(cls, folder: Path) -> Classifier:
        """Load a bundle's classifier/: weights are safetensors, nothing is fetched, an ONNX network is NotInTorch."""
        record = read_record(folder)
        loaders: dict[Library, Callable[[Path], nn.Module]] = {
            "timm": _timm,
            "transformers": _transformers,
            "torchvision": _torchvision,
            "onnx": lambda folder: NotInTorch(),
        }
        return cls(loaders[record.library](folder), record.preprocessing)

    @property
    def input_size(self) -> tuple[int, int, int]:
        return self.preprocessing.input_size

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.net(self.prepare(pixels))
        return logits

    def prepare(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] -> what the network takes, in its order and layout; whole numbers for uint8."""
        told = self.preprocessing
        size = told.input_size[1:]
        if pixels.shape[2:] != size:
            # In float32: torch has no antialiased bfloat16 on a CPU.
            pixels = _resized(pixels.float(), size, told).to(pixels.dtype)
        if told.scale != 1:
            pixels = pixels * told.scale
        if told.dtype == "uint8":
            pixels = pixels.round().clamp(0, 255)
        if told.normalises:
            pixels = (pixels - self.mean) / self.std
        if told.channels_order == "bgr":
            pixels = pixels.flip(1)
        return pixels.permute(0, 2, 3, 1) if told.layout == "nhwc" else pixels


class NotInTorch(nn.Identity):
    """Stands where torch has no form of the network: what comes out is what that network takes."""


def _resized(pixels: Tensor, size: tuple[int, ...], told: Preprocessing) -> Tensor:
    if told.interpolation == "nearest":  # PIL's, which torch calls exact
        return functional.interpolate(pixels, size=size, mode="nearest-exact")
    return functional.interpolate(
        pixels, size=size, mode=told.interpolation, align_corners=False, antialias=told.antialias
    )


def _timm(folder: Path) -> nn.Module:
    import timm

    net: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
    if net.num_classes != (said := net.pretrained_cfg["num_classes"]):  # timm then draws the last layer at random
        raise BundleError(
            f"{folder / 'config.json'}: num_classes: expected {net.num_classes}, as model_args say, got {said}"
        )
    return net  # type: ignore[no-any-return]


def _torchvision(folder: Path) -> nn.Module:
    import safetensors.torch
    from torchvision.models import get_model

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    arguments = {**config.get("model_args", {}), "num_classes": config["num_classes"]}
    net: nn.Module = get_model(config["architecture"], weights=None, **arguments)
    net.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))
    return net


def _transformers(folder: Path) -> nn.Module:
    try:
        import transformers
    except ImportError as error:
        raise BundleError(
            f"{folder}: this classifier's network is transformers': pip install 'certify[convert]': {error}"
        ) from error
    with quiet_transformers():
        net = transformers.AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    return Logits(net)


class Logits(nn.Module):
    """A network of transformers, whose answer is a record, as one that answers with logits."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        for module in net.modules():  # unset, it warns whenever a tracer looks at it
            if hasattr(type(module), "loss_function"):
                module.loss_function = None

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.net(pixel_values=pixels).logits
        return logits


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without its progress bars and notices; what is wrong it raises, or models.classifiers looks for it."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
