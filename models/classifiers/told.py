"""What the user says of a classifier, and what was understood of it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BundleError
from ..preprocessing import CHOICES, Library, Preprocessing

__all__ = ("Shape", "Taken", "Told", "digests")

Shape = tuple[int, int, int]  # (C, H, W) of the pictures


@dataclass(frozen=True, kw_only=True)
class Told:
    """The options of `certify bundles pack`. None: as the file says, or its library by default."""

    architecture: str | None = None  # timm's name, or torchvision:NAME
    model_args: Mapping[str, Any] = field(default_factory=dict)  # of the architecture, beside classes and channels
    input_size: tuple[int, int] | None = None  # (H, W) that the network takes
    interpolation: str | None = None
    antialias: bool | None = None
    mean: tuple[float, ...] | None = None  # one for all channels, or one for each
    std: tuple[float, ...] | None = None
    scale: float | None = None
    channels_order: str | None = None
    layout: str | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if (value := getattr(self, name, None)) is not None and value not in choices:
                raise BundleError(f"{option(name)}: expected {' or '.join(choices)}, got {value!r}")

    @property
    def given(self) -> dict[str, Any]:
        """Only what was said."""
        values = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value not in (None, {})}

    def preprocessing(self, found: Mapping[str, Any], where: str, shape: Shape | None) -> Preprocessing:
        """What was found, but for what is told. where: stands before a field's name in errors.

        shape: of the pictures, whose channels the network must take; None: they are as the network has them.
        """
        fields = dict(found)
        channels = fields["input_size"][0]
        for name in ("interpolation", "antialias", "scale", "channels_order", "layout"):
            if getattr(self, name) is not None:
                fields[name] = getattr(self, name)
        if self.input_size is not None:
            fields["input_size"] = (channels, *self.input_size)
        for name in ("mean", "std"):
            values = getattr(self, name) or fields.get(name, ())
            fields[name] = values * channels if len(values) == 1 else values
        if shape is not None and channels != shape[0]:
            raise BundleError(
                f"{where}input_size: expected [{shape[0]}, H, W], as the pictures have channels, "
                f"got {list(fields['input_size'])}"
            )
        try:
            return Preprocessing(**fields)
        except BundleError as error:
            name = str(error).partition(":")[0]
            place = option(name) if getattr(self, name, None) is not None else f"{where}{name}"
            hint = "; --interpolation says another" if name == "interpolation" else ""
            raise BundleError(f"{place}{str(error)[len(name) :]}{hint}") from error

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Options that mean nothing here are mistakes."""
        for name in names:
            if name in self.given:
                raise BundleError(f"{option(name)}: expected none, since {why}, got {self.given[name]!r}")


def option(field: str) -> str:
    return f"--{field.replace('_', '-')}"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A classifier that stands in the bundle's classifier/, as it was understood."""

    library: Library
    architecture: str
    outputs: int
    labels: tuple[str, ...] | None  # names of its classes, if it has them
    labels_from: str  # where they were read
    preprocessing: Preprocessing
    preprocessing_from: str
    output: str = ""  # see Record
    parameters: int = 0  # where no safetensors file has them
    notes: tuple[str, ...] = ()  # what else a reader should know
    source: Mapping[str, Any] = field(default_factory=dict)  # for the manifest's provenance: kind, files, told


def digests(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 by name, of what was read. A name only: where it lay is nobody's business."""
    found = {}
    for path in files:
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
