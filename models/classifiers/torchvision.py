"""torchvision's networks: a state dict and --architecture torchvision:NAME. Their own transforms are the default."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models

from ..errors import BundleError
from .told import Shape, Taken, Told, digests
from .weights import load_into, load_weights

__all__ = ("PREFIX", "from_weights")

PREFIX = "torchvision:"
# Trained in TensorFlow: with torchvision's own weights they normalise once more, inside. No weight tells.
ASKED = {"googlenet": "transform_input", "inception_v3": "transform_input"}


def from_weights(path: Path, target: Path, shape: Shape | None, told: Told) -> Taken:
    name = (told.architecture or "").removeprefix(PREFIX)
    names = list_models(module=__import__("torchvision").models)
    if name not in names:
        near = ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.5))
        hint = f", as {near}" if near else ""
        raise BundleError(f"--architecture: expected {PREFIX}NAME of an image classifier{hint}, got {name!r}")
    if (asked := ASKED.get(name)) and asked not in told.model_args:
        raise BundleError(
            f"--model-args: expected {asked} for {name}, which no weight tells: '{{\"{asked}\": true}}' for "
            "torchvision's own ImageNet weights, false for those trained by itself"
        )
    told.refuse(("layout", "output"), "these are of ONNX files")
    weights = load_weights(path)
    arguments = dict(told.model_args)
    outputs = int(arguments.pop("num_classes", 0)) or _outputs(name, arguments, weights)
    net = _built(name, {**arguments, "num_classes": outputs})
    load_into(net, weights, path, f"torchvision's {name}")
    transforms: Any = get_model_weights(name).DEFAULT.transforms()
    found = {
        "input_size": (3, transforms.crop_size[0], transforms.crop_size[0]),
        "interpolation": transforms.interpolation.value,
        "mean": tuple(transforms.mean),
        "std": tuple(transforms.std),
    }
    preprocessing = told.preprocessing(found, f"torchvision's transforms of {name}: ", shape)
    target.mkdir()
    config = {"architecture": name, "num_classes": outputs, "model_args": arguments}
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    safetensors.torch.save_file(
        {key: value.contiguous().clone() for key, value in net.state_dict().items()}, target / "model.safetensors"
    )
    return Taken(
        library="torchvision",
        architecture=name,
        outputs=outputs,
        labels=None,
        labels_from=str(path),
        preprocessing=preprocessing,
        preprocessing_from=f"torchvision's transforms of {name}",
        source={"kind": "state dict", "files": digests((path,))},
    )


def _outputs(name: str, arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> int:
    """How many classes these weights have: the size of the layer that has one output for each class."""
    with torch.device("meta"):
        two, three = (_built(name, {**arguments, "num_classes": count}).state_dict() for count in (2, 3))
    heads = [key for key, value in two.items() if value.shape != three[key].shape]
    found = {int(value.shape[0]) for key, value in weights.items() if any(key.endswith(head) for head in heads)}
    if len(found) != 1:
        raise BundleError(
            f"--architecture: expected weights of torchvision's {name}, whose classes {heads[0]} counts, "
            f"got {'none of that name' if not found else sorted(found)}"
        )
    return found.pop()


def _built(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    # Weights follow, so that an old initialisation's warning is none of ours.
    plain = {"init_weights": True} if name in ASKED else {}
    try:
        net: nn.Module = get_model(name, weights=None, **{**plain, **arguments})
    except (TypeError, ValueError) as error:
        raise BundleError(f"--model-args: expected arguments of torchvision's {name}: {error}") from error
    return net
