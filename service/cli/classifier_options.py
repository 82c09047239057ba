"""Options of `certify bundles pack` that say of a classifier what its files do not, or something else."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import typer

from ..errors import DataError

__all__ = ("told_of", "with_classifier_options")

PANEL = "Of the classifier, instead of what its files say"
# By the field of models.classifiers.Told: the option's type and help.
OPTIONS: Mapping[str, tuple[Any, str]] = {
    "architecture": (str | None, "Of weights: timm's name, or torchvision:NAME."),
    "model_args": (str | None, 'More of the architecture, in JSON: {"img_size": 64}.'),
    "input_size": (str | None, "Pixels it takes: 224, or 224x192 (height first)."),
    "interpolation": (str | None, "bilinear, bicubic or nearest, to that size."),
    "antialias": (bool | None, "Whether resizing smooths first [it does]."),
    "mean": (str | None, "One number, or red,green,blue; in units after --scale."),
    "std": (str | None, "One number, or red,green,blue; in units after --scale."),
    "scale": (float | None, "Pixels in 0..1 times this come first: 255 where it takes 0..255."),
    "channels_order": (str | None, "rgb or bgr."),
    "layout": (str | None, "nchw or nhwc, of an ONNX file where it can be either."),
    "output": (str | None, "Name of an ONNX file's output that has the classes."),
}


def with_classifier_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command(..., **fields)` an option for each of OPTIONS, after its own."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=kind,
            default=typer.Option(None, help=text, rich_help_panel=PANEL),
        )
        for name, (kind, text) in OPTIONS.items()
    ]
    kept = [parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD]
    command.__signature__ = inspect.Signature([*kept, *options])  # type: ignore[attr-defined]
    return command


def told_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What was said, as fields of models.classifiers.Told. Raises DataError."""
    readers = {"model_args": _object, "input_size": _size, "mean": _reals, "std": _reals}
    given = {name: value for name, value in fields.items() if value is not None}
    return {name: readers[name](name, value) if name in readers else value for name, value in given.items()}


def _reals(name: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(map(math.isfinite, values)):
        raise DataError(f"--{name}: expected numbers with commas between, got {text!r}")
    return values


def _size(name: str, text: str) -> tuple[int, int]:
    sides = [side.strip() for side in text.lower().split("x")]
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise DataError(f"--input-size: expected pixels as 224, or 224x192 (height first), got {text!r}")
    return int(sides[0]), int(sides[-1])


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DataError(f'--model-args: expected a JSON object, as {{"img_size": 64}}, got {text!r}')
    return value
