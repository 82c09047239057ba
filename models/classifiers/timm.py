"""timm's networks: a folder in its hub layout, weights in a file with the architecture's name, or a name to fetch."""

from __future__ import annotations

import difflib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import timm.models
from torch import nn

from ..data.class_lists import names_in_config
from ..errors import BundleError
from ..files import check_safetensors, read_object
from ..preprocessing import Preprocessing
from .told import Shape, Taken, Told, digests
from .weights import check_floats, load_into, load_weights

__all__ = ("from_folder", "from_name", "from_weights")

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
HUB = ("hf-hub:", "hf_hub:", "timm/")
# What timm itself takes where a config does not say.
DEFAULT = {"interpolation": "bicubic", "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def from_folder(folder: Path, target: Path, shape: Shape | None, told: Told) -> Taken:
    """timm's hub layout: config.json with model.safetensors or pytorch_model.bin."""
    path = folder / "config.json"
    config = read_object(path, "a folder in timm's hub layout (timm.models.save_for_hf), or one of transformers'")
    if not isinstance(config.get("architecture"), str):
        raise BundleError(
            f"{path}: architecture: expected timm's name of it, or transformers' model_type, got "
            f"{config.get('architecture')!r}"
        )
    told.refuse(("architecture", "model_args"), f"{path} says it")
    told.refuse(("layout", "output"), "these are of ONNX files")
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise BundleError(
            f"{folder / WEIGHTS[0]}: no such file; expected timm.models.save_for_hf(model, DIR, "
            "safe_serialization=True)"
        )
    if weights.suffix == ".safetensors":
        check_floats(check_safetensors(weights))
    # Earlier timm wrote pretrained_cfg's fields beside the architecture.
    inner = config.get("pretrained_cfg")
    settings, field = (config, "") if inner is None else (inner, "pretrained_cfg.")
    if not isinstance(settings, dict):
        raise BundleError(f"{path}: pretrained_cfg: expected an object, got {settings!r:.100}")
    preprocessing = _preprocessing(settings, f"{path}: {field}", shape, told)
    outputs = config.get("num_classes", settings.get("num_classes"))
    if type(outputs) is not int or outputs < 2:
        raise BundleError(f"{path}: num_classes: expected at least 2, got {outputs!r}")
    target.mkdir()
    shutil.copyfile(path, target / "config.json")
    if weights.name == WEIGHTS[0]:
        shutil.copyfile(weights, target / WEIGHTS[0])
    else:
        _store(weights, target / WEIGHTS[0])
    names = names_in_config(config, path)
    return Taken(
        library="timm",
        architecture=config["architecture"],
        outputs=outputs,
        labels=names if names is not None and len(names) == outputs else None,
        labels_from=str(path),
        preprocessing=preprocessing,
        preprocessing_from=f"{path}{field and ': pretrained_cfg'}",
        source={"kind": "timm hub folder", "files": digests((path, weights))},
    )


def from_weights(path: Path, target: Path, shape: Shape | None, told: Told) -> Taken:
    """A state dict of told.architecture."""
    name = told.architecture or ""
    if not timm.is_model(name.split(".")[0]):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5))
        raise BundleError(
            f"--architecture: expected timm's name of it{f', as {near}' if near else ''}, or torchvision:NAME, "
            f"got {name!r}"
        )
    told.refuse(("layout", "output"), "these are of ONNX files")
    weights = load_weights(path)
    settings = timm.models.get_pretrained_cfg(name).to_dict()
    arguments: dict[str, Any] = {"in_chans": shape[0] if shape else 3, **told.model_args}
    if settings.get("fixed_input_size") and told.input_size:
        arguments.setdefault("img_size", told.input_size)
    arguments.setdefault("num_classes", _outputs(weights, settings))
    net = _built(name, arguments)
    load_into(net, weights, path, name)
    settings = {**settings, "input_size": (arguments["in_chans"], *settings["input_size"][1:])}
    for field in ("mean", "std"):  # timm's are of three channels
        if len(settings[field]) != arguments["in_chans"]:
            settings[field] = (sum(settings[field]) / len(settings[field]),) * arguments["in_chans"]
    preprocessing = _preprocessing(settings, f"timm's defaults of {name}: ", shape, told)
    _save(net, target, arguments, preprocessing)
    return Taken(
        library="timm",
        architecture=name,
        outputs=arguments["num_classes"],
        labels=None,
        labels_from=str(path),
        preprocessing=preprocessing,
        preprocessing_from=f"timm's defaults of {name}",
        source={"kind": "state dict", "files": digests((path,))},
    )


def from_name(name: str, target: Path, shape: Shape | None, told: Told) -> Taken:
    """A timm name, timm/NAME or hf-hub:OWNER/NAME, whose weights timm fetches."""
    if not name.startswith(HUB) and not timm.is_model(name.split(".")[0]):
        raise BundleError(
            "classifier: expected a folder in timm's hub layout or a timm name, or a folder of transformers', an .onnx "
            f"file, or weights (.safetensors, .pth, .bin) with --architecture, got {name!r}, where nothing is; a name "
            "on the Hugging Face Hub is fetched first: hf download NAME --local-dir DIR"
        )
    told.refuse(("architecture", "layout", "output"), f"{name} says it")
    arguments: dict[str, Any] = {**told.model_args, **({"in_chans": shape[0]} if shape else {})}
    try:
        net = timm.create_model(f"hf-hub:{name}" if name.startswith("timm/") else name, pretrained=True, **arguments)
    except Exception as error:  # of the network, the hub, or timm
        said = " ".join(str(error).split())[:300]
        raise BundleError(
            f"classifier: {name}: its weights cannot be had ({type(error).__name__}: {said}); "
            "where there is no network, fetch the folder elsewhere (hf download timm/NAME --local-dir DIR) "
            "and give --classifier DIR"
        ) from error
    settings = dict(net.pretrained_cfg)
    preprocessing = _preprocessing(settings, f"{name}: pretrained_cfg.", shape, told)
    _save(net, target, {**arguments, "num_classes": net.num_classes}, preprocessing)
    names = settings.get("label_names")
    return Taken(
        library="timm",
        architecture=name,
        outputs=int(net.num_classes),
        labels=names_in_config({"label_names": list(names)}, name) if names else None,
        labels_from=name,
        preprocessing=preprocessing,
        preprocessing_from=f"{name}: pretrained_cfg",
        source={"kind": "timm name", "name": name},
    )


def _preprocessing(settings: Mapping[str, Any], where: str, shape: Shape | None, told: Told) -> Preprocessing:
    size = settings.get("input_size")
    if not isinstance(size, list | tuple) or len(size) != 3:
        raise BundleError(f"{where}input_size: expected [C, H, W], got {size!r}")
    found: dict[str, Any] = {"input_size": tuple(size)}
    for field, default in DEFAULT.items():
        value = settings.get(field, default)
        one = field != "interpolation" and isinstance(value, int | float)
        found[field] = tuple(value) if isinstance(value, list) else (value,) if one else value
        if field != "interpolation" and not found[field]:
            raise BundleError(f"{where}{field}: expected {size[0]} values, got {value!r}")
    if found["interpolation"] == "random":  # of training; timm itself then evaluates so
        found["interpolation"] = "bilinear"
    return told.preprocessing(found, where, shape)


def _outputs(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> int:
    """How many classes these weights have, by the last layer's."""
    heads = settings.get("classifier") or ()
    for head in (heads,) if isinstance(heads, str) else heads:
        for key in weights:
            if (key == f"{head}.weight" or key.endswith(f".{head}.weight")) and weights[key].ndim:
                return int(weights[key].shape[0])
    return int(settings["num_classes"])


def _built(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        net: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    except Exception as error:
        raise BundleError(
            f"--model-args: expected arguments of timm's {name}, got {dict(arguments)}: {error}"
        ) from error
    return net


def _save(net: nn.Module, target: Path, arguments: Mapping[str, Any], preprocessing: Preprocessing) -> None:
    # Without the tag and license of timm's own weights, which these need not be.
    told = {field: getattr(preprocessing, field) for field in ("input_size", "mean", "std", "interpolation")}
    net.pretrained_cfg = {**net.pretrained_cfg, **told, "tag": "", "license": None}  # type: ignore[assignment, dict-item]
    kept = {key: value for key, value in arguments.items() if key != "num_classes"}
    timm.models.save_for_hf(
        net,
        str(target),
        model_config={"num_classes": arguments["num_classes"], "model_args": json.loads(json.dumps(kept))},
        safe_serialization=True,
    )


def _store(weights: Path, target: Path) -> None:
    import safetensors.torch

    # Copies: several tensors of a pickle may be windows of one storage, which safetensors refuses.
    state = {key: value.contiguous().clone() for key, value in load_weights(weights).items()}
    safetensors.torch.save_file(state, target, metadata={"format": "pt"})
