"""What a gate requires: from options, or from a policy file that is reviewed with the release."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ...models.files import read_text
from ..errors import DataError

__all__ = ("GatePolicy", "read_policy")

# The field's usual confidence for a share over images; the certificates' own alpha is another matter.
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class GatePolicy:
    """radius: > 0, in the units of the request's norm. Shares are in (0, 1). Raises DataError, naming the field."""

    radius: float
    at_least: float  # of all inputs
    confidence: float = CONFIDENCE
    class_at_least: float | None = None  # of the inputs of each class that the data have
    classes: Mapping[str, float] = field(default_factory=dict)  # of these by name, instead
    max_images: int | None = None  # drawn at most; None: all that there are

    def __post_init__(self) -> None:
        if not 0.0 < self.radius < math.inf:
            raise DataError(f"radius: expected a finite number > 0, got {self.radius}")
        shares = {"at_least": self.at_least, "confidence": self.confidence, "class_at_least": self.class_at_least}
        shares |= {f"classes, {name}": share for name, share in self.classes.items()}
        for name, share in shares.items():
            if share is not None and not 0.0 < share < 1.0:
                raise DataError(f"{name}: expected a number above 0 and below 1, got {share}")
        if self.max_images is not None and self.max_images < 1:
            raise DataError(f"max_images: expected at least 1, got {self.max_images}")


def read_policy(path: Path | None, options: Mapping[str, Any]) -> GatePolicy:
    """options: by the policy's fields, None where not given; what is said twice is refused. Raises DataError."""
    said = {name: value for name, value in options.items() if value is not None}
    if path is not None:
        kept = _checked(path, _load(path))
        if twice := sorted(set(kept) & set(said)):
            raise DataError(f"{', '.join(twice)}: expected in {path} or as an option, got both")
        said |= kept
    if missing := [name for name in ("radius", "at_least") if name not in said]:
        options_named = " and ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise DataError(f"{', '.join(missing)}: expected {options_named}, or in a --policy file, got neither")
    return GatePolicy(**said)


def _load(path: Path) -> object:
    try:
        import yaml
    except ImportError as error:
        raise DataError("policy: expected PyYAML, to read it with (pip install 'certify[gate]')") from error

    class OnceLoader(yaml.SafeLoader):  # type: ignore[misc]
        """YAML's own takes the last of two equal keys, and who reviews the file may read the first."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise yaml.YAMLError(f"{twice[0]!r} is there {keys.count(twice[0])} times")
            return dict(super().construct_mapping(node, deep))

    try:
        return yaml.load(read_text(path), OnceLoader)
    # ValueError: a date that is none, a number of too many digits; RecursionError: lists in lists.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        what = " ".join(str(error).split())[:500]  # YAML's own shows the place, in lines
        raise DataError(f"{path}: expected a gate's policy, in YAML: {what}") from error


def _checked(path: Path, content: object) -> dict[str, Any]:
    """By field, each of its type."""
    known = [each.name for each in fields(GatePolicy)]
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected some of {', '.join(known)}, got {type(content).__name__}")
    for name, value in content.items():
        if name not in known:
            raise DataError(f"{path}: expected some of {', '.join(known)}, got {name!r}")
        if name == "classes":
            _check_classes(path, value)
        elif name == "max_images":
            if type(value) is not int:
                raise DataError(f"{path}: max_images: expected a whole number, got {value!r}")
        elif not _is_number(value):
            raise DataError(f"{path}: {name}: expected a number, got {value!r}")
    return content


def _check_classes(path: Path, value: object) -> None:
    """A class that is named by a number is a number in YAML: quotes make it a name."""
    if not isinstance(value, dict):
        raise DataError(f"{path}: classes: expected a share for each name, got {value!r}")
    for name, share in value.items():
        if not isinstance(name, str):
            raise DataError(f'{path}: classes: expected names, got {name!r}: write it in quotes, as "{name}"')
        if not _is_number(share):
            raise DataError(f"{path}: classes, {name}: expected a number, got {share!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
