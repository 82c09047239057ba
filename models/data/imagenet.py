"""ImageNet's classes: WordNet synsets and their names, from the lists that timm ships (its code is not imported)."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..errors import DataError

__all__ = ("LISTS", "imagenet_names", "imagenet_order", "is_synset", "synset_names", "without_number")

# As timm.data.ImageNetInfo names them.
LISTS = {
    "imagenet": "imagenet_synsets.txt",
    "imagenet-1k": "imagenet_synsets.txt",
    "imagenet-12k": "imagenet12k_synsets.txt",
    "imagenet-21k": "imagenet21k_goog_synsets.txt",
    "imagenet-21k-miil": "imagenet21k_miil_synsets.txt",
    "imagenet-22k": "imagenet22k_synsets.txt",
}
_SYNSET = re.compile(r"n\d{8}")
_CLASSES = 1000
# So many of a bundle's names must stand where ImageNet has them for its classes to count as ImageNet's, in their order:
# torchvision's names differ in 2 of 1,000, and another order agrees in next to none.
_AGREEING = 900


def is_synset(name: str) -> bool:
    return _SYNSET.fullmatch(name) is not None


def imagenet_names(subset: str) -> tuple[str, ...]:
    """Names in the order of a network's outputs, as "tench, Tinca tinca"; two synsets of a name have it beside them.

    Example: "crane (n02012849)". subset: one of LISTS. Raises DataError when timm is not installed.
    """
    names = synset_names()
    folder = _folder()
    if folder is None:
        raise DataError(f"classes: {subset}: expected timm, which has the names (pip install 'certify[torch]')")
    synsets = (folder / LISTS[subset]).read_text(encoding="utf-8").split()
    found = [names.get(synset, synset) for synset in synsets]
    times = Counter(found)
    pairs = zip(found, synsets, strict=True)
    return tuple(f"{name} ({synset})" if times[name] > 1 else name for name, synset in pairs)


@functools.cache
def synset_names() -> dict[str, str]:
    """n01440764 -> "tench, Tinca tinca", of every synset in ImageNet; empty without timm."""
    folder = _folder()
    if folder is None:
        return {}
    lines = (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


@functools.cache
def imagenet_order(classes: tuple[str, ...]) -> tuple[str, ...] | None:
    """The synset of each class, if these are ImageNet's 1,000 in their order; None if not, or without timm.

    A thousand classes that are only numbered count as these: they are asked for by synset alone.
    """
    folder = _folder()
    if folder is None or len(classes) != _CLASSES:
        return None
    synsets = tuple((folder / LISTS["imagenet"]).read_text(encoding="utf-8").split())
    names = synset_names()
    if classes == tuple(map(str, range(_CLASSES))):
        return synsets
    pairs = zip(classes, synsets, strict=True)
    agreeing = sum(name == synset or _parts(name) <= _parts(names[synset]) for name, synset in pairs)
    return synsets if agreeing >= _AGREEING else None


def _parts(names: str) -> set[str]:
    return {name.strip().casefold() for name in without_number(names).split(",")}


def without_number(name: str) -> str:
    """A name without the number or synset that tells it from another of the same name: "crane (134)" -> "crane"."""
    return re.sub(r" \((\d+|n\d{8})\)$", "", name)


@functools.cache
def _folder() -> Path | None:
    try:
        spec = find_spec("timm")
    except (ImportError, ValueError):
        return None
    places: Sequence[str] = (spec.submodule_search_locations or ()) if spec else ()
    folders = (Path(place) / "data" / "_info" for place in places)
    return next((folder for folder in folders if (folder / LISTS["imagenet"]).is_file()), None)
