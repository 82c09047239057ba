"""How pixels in [0, 1] become what a classifier takes, as classifier/classifier.json tells it: of every kind.

Nothing here imports torch; models.classifier computes it. In order:

    resize          the whole picture to input_size, unless it has that size; nothing is cut off, whatever a library's
                    own transforms do: a certificate speaks of every pixel
    scale           pixels * scale; 255 for networks that take 0..255
    round           uint8 networks only: to the nearest whole number, halves to the even one, then into 0..255. This is
                    part of the base classifier: it is done to every noisy sample alike
    normalise       (pixels - mean) / std, in the order red, green, blue
    arrange         channels blue first for bgr; (N, H, W, C) for nhwc

Values outside [0, 1], as noise makes them, pass unclipped, but for uint8.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from .errors import BundleError
from .files import read_object

__all__ = (
    "CLASSIFIER",
    "LARGEST_SIDE",
    "INTERPOLATIONS",
    "LIBRARIES",
    "Library",
    "Preprocessing",
    "Record",
    "bilinear",
    "read_record",
)

CLASSIFIER = "classifier.json"
LARGEST_SIDE = 4096  # pixels of a picture: four of the largest are tried together, in 800 MB
# Who reads the network beside the record: config.json and model.safetensors, or model.onnx.
Library = Literal["timm", "transformers", "torchvision", "onnx"]
LIBRARIES: tuple[Library, ...] = get_args(Library)
# lanczos and box, which PIL has too, are in no version of torch, or in new ones alone, and OpenVINO reads neither.
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
CHOICES = {
    "interpolation": INTERPOLATIONS,
    "channels_order": ("rgb", "bgr"),
    "layout": ("nchw", "nhwc"),
    "dtype": ("float32", "uint8"),
}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Checked when it is made: raises BundleError that begins with the field's name."""

    input_size: tuple[int, int, int]  # (C, H, W) of what the network takes
    mean: tuple[float, ...] = ()  # of each channel, after `scale`; () = 0
    std: tuple[float, ...] = ()  # () = 1
    interpolation: str = "bilinear"
    # What PIL does, and so timm's, transformers' and torchvision's own transforms. Where it enlarges it only chooses
    # the bicubic kernel (a = -0.5, without it -0.75).
    antialias: bool = True
    scale: float = 1.0
    channels_order: str = "rgb"
    layout: str = "nchw"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        size = self.input_size
        _require(
            len(size) == 3 and all(type(n) is int and 0 < n <= LARGEST_SIDE for n in size) and size[0] in (1, 3),
            "input_size", f"[C, H, W] with 1 (gray) or 3 channels, sides at most {LARGEST_SIDE}", list(size),
        )  # fmt: skip
        for name, neutral in (("mean", 0.0), ("std", 1.0)):
            values = getattr(self, name) or (neutral,) * size[0]
            object.__setattr__(self, name, tuple(float(v) for v in values) if all(map(_real, values)) else ())
            _require(len(getattr(self, name)) == size[0], name, f"{size[0]} numbers, one for each channel", values)
        _require(all(value > 0 for value in self.std), "std", "values > 0", list(self.std))
        _require(_real(self.scale) and self.scale > 0, "scale", "a number > 0", self.scale)
        _require(type(self.antialias) is bool, "antialias", "true or false", self.antialias)
        for name, choices in CHOICES.items():
            _require(getattr(self, name) in choices, name, " or ".join(choices), getattr(self, name))
        _require(size[0] == 3 or self.channels_order == "rgb", "channels_order", "rgb of a gray image", "bgr")
        _require(
            self.dtype == "float32" or not self.normalises, "mean, std", "none: the network takes whole numbers",
            [list(self.mean), list(self.std)],
        )  # fmt: skip

    @property
    def normalises(self) -> bool:
        return any(self.mean) or any(value != 1 for value in self.std)

    def __str__(self) -> str:
        """ "3x64x64, bicubic with antialias, mean 0.5 0.5 0.5, std 0.5 0.5 0.5"."""
        parts = [
            "x".join(map(str, self.input_size)),
            self.interpolation + (" with antialias" if self.antialias else ""),
        ]
        if self.scale != 1:
            parts.append(f"pixels times {self.scale:g}")
        if self.dtype == "uint8":
            parts.append("rounded to whole numbers 0..255")
        for name in ("mean", "std") if self.normalises else ():
            parts.append(f"{name} {' '.join(f'{value:g}' for value in getattr(self, name))}")
        if self.channels_order == "bgr":
            parts.append("blue, green, red")
        return ", ".join([*parts, *(["channels last"] if self.layout == "nhwc" else [])])


@dataclass(frozen=True, kw_only=True)
class Record:
    """classifier/classifier.json."""

    library: Library
    preprocessing: Preprocessing
    output: str = ""  # of a network with several (onnx): the name of the one whose largest value is the class

    def write(self, folder: Path) -> None:
        text = json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False)
        (folder / CLASSIFIER).write_text(text + "\n", encoding="utf-8")


def read_record(folder: Path) -> Record:
    """Of a bundle's classifier/. Bundles of earlier versions have none: timm's, always resized bilinearly.

    Raises BundleError naming file and field.
    """
    path = folder / CLASSIFIER
    if not path.exists():
        return Record(library="timm", preprocessing=_earlier(folder / "config.json"))
    raw = read_object(path)
    try:
        if raw.get("library") not in LIBRARIES:
            raise BundleError(f"library: expected one of {', '.join(LIBRARIES)}, got {raw.get('library')!r}")
        fields: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in dict(raw["preprocessing"]).items()
        }
        return Record(**{**raw, "preprocessing": Preprocessing(**fields)})
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    except (TypeError, ValueError, LookupError) as error:
        raise BundleError(f"{path}: missing, unknown or badly typed field: {error}") from error


def _earlier(path: Path) -> Preprocessing:
    settings = read_object(path).get("pretrained_cfg", {})
    try:
        return bilinear(settings)
    except (BundleError, TypeError, LookupError) as error:
        raise BundleError(f"{path}: pretrained_cfg: {error}") from error


def bilinear(settings: Mapping[str, Any]) -> Preprocessing:
    """Of timm's pretrained_cfg: input_size, mean and std. Raises BundleError, TypeError or LookupError."""
    return Preprocessing(
        input_size=tuple(settings["input_size"]), mean=tuple(settings["mean"]), std=tuple(settings["std"])
    )


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require(condition: bool, where: str, expected: str, got: object) -> None:
    if not condition:
        raise BundleError(f"{where}: expected {expected}, got {got!r}")
