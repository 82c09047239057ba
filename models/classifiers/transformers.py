"""transformers' image classifiers: a folder that save_pretrained wrote, with the preprocessing it comes with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..classifier import quiet_transformers
from ..data.class_lists import names_in_config
from ..errors import BundleError
from ..files import check_safetensors, not_a_pointer, read_object
from .told import Shape, Taken, Told, digests
from .weights import check_floats

__all__ = ("from_folder", "of_processor")

PROCESSORS = ("preprocessor_config.json", "processor_config.json")
# PIL's numbers, as `resample` has them.
RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
# Steps that are obeyed, or change nothing of a picture that is decoded and of its size. Another that is on is refused.
STEPS = {
    "do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_flip_channel_order", "do_convert_rgb",
    "do_reduce_labels",
}  # fmt: skip
SHOWN = 3


def from_folder(folder: Path, target: Path, shape: Shape | None, told: Told) -> Taken:
    """config.json with model_type, weights as safetensors or a safe pytorch_model.bin, preprocessor_config.json."""
    path = folder / "config.json"
    config = read_object(path)
    told.refuse(("architecture", "model_args", "layout", "output"), f"{path} says it")
    net = _loaded(folder)
    names = names_in_config(config, path)
    outputs = int(net.config.num_labels)
    found, where, crops = _found(folder, net, shape, told)
    preprocessing = told.preprocessing(found, f"{where}: ", shape)
    target.mkdir()
    with quiet_transformers():
        net.save_pretrained(str(target), max_shard_size="1TB")
    files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors", ".bin"))
    return Taken(
        library="transformers",
        architecture=type(net).__name__,
        outputs=outputs,
        labels=names if names is not None and len(names) == outputs else None,
        labels_from=f"{path}: id2label",
        preprocessing=preprocessing,
        preprocessing_from=where,
        notes=("its crop is left out: the whole picture is resized",) if crops else (),
        source={"kind": "transformers folder", "files": digests(files)},
    )


def _loaded(folder: Path) -> Any:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise BundleError(
            f"{folder / 'config.json'}: a model_type of transformers': expected that package, which is not installed: "
            f"pip install 'certify[convert]' ({error})"
        ) from error
    for file in folder.glob("*.safetensors"):
        check_floats(check_safetensors(file))
    for file in folder.glob("*.bin"):
        not_a_pointer(file)
    try:
        with quiet_transformers():
            net, info = transformers.AutoModelForImageClassification.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, weights_only=True, dtype=torch.float32,
                output_loading_info=True,
            )  # fmt: skip
    except Exception as error:  # of its config, its weights, or code of its own that it asks for
        said = " ".join(str(error).split())[:400]
        raise BundleError(
            f"{folder}: expected an image classifier that transformers' AutoModelForImageClassification reads without "
            f"code from the folder, got: {said}"
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise BundleError(
            f"{folder}: expected weights for all of {type(net).__name__}, got none for {', '.join(missing[:SHOWN])}"
            f"{', ...' if len(missing) > SHOWN else ''}: a network that is not trained to classify yet? give the "
            "folder of the fine-tuned one"
        )
    return net.eval()


def _found(folder: Path, net: Any, shape: Shape | None, told: Told) -> tuple[dict[str, Any], str, bool]:
    """(fields of Preprocessing, where they were read, whether the processor would cut the borders off)."""
    channels = int(getattr(net.config, "num_channels", 3))
    path = next((folder / name for name in PROCESSORS if (folder / name).is_file()), None)
    if path is None:
        if told.input_size and told.mean and told.std:
            return {"input_size": (channels, *told.input_size)}, "the options", False
        raise BundleError(
            f"{folder / PROCESSORS[0]}: no such file; expected the one its image processor's save_pretrained wrote, or "
            "--input-size, --mean and --std"
        )
    from transformers import AutoImageProcessor

    try:
        with quiet_transformers():
            # By the library, whose classes have defaults for what a file does not say, and know the older names.
            settings = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        said = " ".join(str(error).split())[:400]
        raise BundleError(f"{path}: expected an image processor that transformers knows, got: {said}") from error
    said = settings.to_dict()
    found = of_processor(said, path, sides=told.input_size or (shape[1:] if shape else None))
    crops = bool(said.get("do_center_crop") or said.get("crop_pct"))
    return {**found, "input_size": (channels, *found["input_size"])}, str(path), crops


def of_processor(settings: Mapping[str, Any], path: Path, *, sides: tuple[int, int] | None) -> dict[str, Any]:
    """Fields of Preprocessing; input_size only (H, W). sides: of pictures that are not resized. Raises BundleError."""
    on = {name for name, value in settings.items() if name.startswith("do_") and value is True}
    if other := sorted(on - STEPS):
        raise BundleError(
            f"{path}: {other[0]}: expected false, got true: this step cannot be part of a classifier here"
        )
    found: dict[str, Any] = {"input_size": _sides(settings, on, path, sides)}
    if "do_resize" in on and settings.get("resample") is not None:
        number = settings["resample"]
        found["interpolation"] = RESAMPLE.get(int(number), str(number)) if isinstance(number, int) else str(number)
    # To 0..255, as a picture is stored, and from there as they say.
    factor = settings.get("rescale_factor", 1 / 255) if "do_rescale" in on else 1.0
    found["scale"] = _near_one(255 * float(factor))
    mean, std = _normal(settings, on, path)
    if settings.get("rescale_offset") and "do_rescale" in on:  # EfficientNet's: to -1..1
        mean = tuple(value + 1 for value in mean or (0.0,))
    if settings.get("include_top") and std:  # EfficientNet's processor divides once more by std
        std = tuple(value * value for value in std)
    found.update({"mean": mean} if mean else {}, **({"std": std} if std else {}))
    if "do_flip_channel_order" in on:
        if mean or std:
            raise BundleError(f"{path}: do_flip_channel_order: expected false beside do_normalize, got true")
        found["channels_order"] = "bgr"
    return found


def _normal(settings: Mapping[str, Any], on: set[str], path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if "do_normalize" not in on:
        return (), ()
    values = []
    for name in ("image_mean", "image_std"):
        value = settings.get(name)
        one = isinstance(value, int | float)
        if not one and not isinstance(value, list | tuple):
            raise BundleError(f"{path}: {name}: expected a number for each channel, got {value!r}")
        values.append((float(value),) if one else tuple(map(float, value)))  # type: ignore[arg-type]
    return values[0], values[1]


def _sides(settings: Mapping[str, Any], on: set[str], path: Path, sides: tuple[int, int] | None) -> tuple[int, int]:
    """(H, W) that reach the network, in any of the spellings."""
    field = "crop_size" if "do_center_crop" in on else "size"
    if "do_resize" not in on and field == "size":
        if sides is None:
            raise BundleError(f"{path}: do_resize: expected true, or --input-size, got false")
        return sides
    size = settings.get(field)
    match size:
        case int():
            return size, size
        case [int() as height, int() as width]:
            return height, width
        case {"height": int() as height, "width": int() as width}:
            return height, width
        case {"shortest_edge": int() as side}:
            return side, side
    raise BundleError(
        f"{path}: {field}: expected a number, {{height, width}} or {{shortest_edge}}, or --input-size, got {size!r}"
    )


def _near_one(value: float) -> float:
    """255 / 255, whatever was rounded on the way."""
    return 1.0 if abs(value - 1) < 1e-9 else value
