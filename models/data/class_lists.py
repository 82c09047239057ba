"""Class names as people keep them, for `certify bundles pack --classes`: typed, in a file, in a config, ImageNet's."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..manifest import has_controls
from .imagenet import LISTS, imagenet_names
from .pictures import read_file

__all__ = ("names_in_config", "read_classes")


# What stands before the names in Kaggle's LOC_synset_mapping.txt: "n01440764 tench, Tinca tinca".
_SYNSET = re.compile(r"^n\d{8}\s+")


def read_classes(text: str) -> tuple[str, ...]:
    """text: names with commas between; one of LISTS, as imagenet; or @PATH, of a file or of a folder with config.json.

    A file has a name a line, or is JSON: a list of names, {"0": name, ...}, or a config that holds id2label or
    label_names. Names that a file has twice get their numbers. Raises DataError.
    """
    if text in LISTS:
        return imagenet_names(text)
    if text.startswith("@"):
        return _of_file(Path(text[1:]))
    return tuple(part.strip() for part in text.split(","))


def names_in_config(config: Mapping[str, Any], where: object) -> tuple[str, ...] | None:
    """Of a timm or transformers config.json: label_names or id2label; None where there are none, or only LABEL_0, ...

    where: the config's path. Raises DataError when id2label has not a name for each number.
    """
    settings = config.get("pretrained_cfg")
    for holder in (config, settings if isinstance(settings, Mapping) else {}):
        names = holder.get("label_names")
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            return _different(names)
    names = config.get("id2label")
    if isinstance(names, list) and names:  # in their order, as some write it
        names = {str(at): name for at, name in enumerate(names)}
    if not isinstance(names, Mapping) or not names:
        return None
    in_order = _checked(_in_order(names, f"{where}: id2label"), where)
    placeholders = [f"LABEL_{at}" for at in range(len(in_order))]  # what transformers writes for want of names
    return None if list(in_order) == placeholders else in_order


def _of_file(path: Path) -> tuple[str, ...]:
    path = path / "config.json" if path.is_dir() else path
    try:
        text = read_file(path).decode("utf-8-sig")
    except DataError as error:
        raise DataError(f"classes: expected a file of names: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"classes: {path}: expected UTF-8 text: {error}") from error
    where = f"classes: {path}"
    if not text.lstrip().startswith(("{", "[")):
        return _checked([_SYNSET.sub("", line.strip()) for line in text.splitlines() if line.strip()], where)
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"classes: {path}: expected a name a line, or JSON: {error}") from error
    if isinstance(raw, list):
        return _checked(raw, where)
    if (names := names_in_config(raw, where)) is not None:
        return _checked(names, where)
    return _checked(_in_order(raw, where), where)


def _in_order(names: Mapping[Any, Any], where: str) -> list[Any]:
    """{"0": name, "1": name, ...} -> names; also {name: 0, ...}, as torchvision's class_to_idx and label2id are."""
    if all(type(value) is int for value in names.values()):
        if len(set(names.values())) != len(names):
            raise DataError(f"{where}: expected a number of its own for each name, got {dict(names)!s:.100}")
        names = {str(value): name for name, value in names.items()}
    missing = next((at for at in range(len(names)) if str(at) not in names), None)
    if missing is not None:
        raise DataError(f"{where}: expected a name for each of 0 to {len(names) - 1}, and there is none for {missing}")
    values = [names[str(at)] for at in range(len(names))]
    # Keras' imagenet_class_index.json: ["n01440764", "tench"].
    return [value[1] if isinstance(value, list) and len(value) == 2 else value for value in values]


def _checked(names: Sequence[Any], where: object) -> tuple[str, ...]:
    if not names:
        raise DataError(f"{where}: expected names, got none")
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{where}: expected names, got {name!r}")
        if has_controls(name.strip()):
            raise DataError(f"{where}: expected names without control characters, got {name!r}")
    return _different([name.strip() for name in names])


def _different(names: Sequence[str]) -> tuple[str, ...]:
    """ImageNet has two cranes: names that come twice get their numbers, "crane (134)" and "crane (517)"."""
    times = Counter(names)
    return tuple(f"{name} ({at})" if times[name] > 1 else name for at, name in enumerate(names))
