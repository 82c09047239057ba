"""A data set's class names, found among a bundle's: the same class may have other words in either."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import DataError
from .imagenet import imagenet_order, is_synset, synset_names, without_number

__all__ = ("indices_of",)

# So many of a bundle's classes are named in an error.
_SHOWN = 10


def indices_of(names: Sequence[str], classes: tuple[str, ...], *, named: bool, where: str) -> Mapping[str, int]:
    """Each name's index in a bundle's classes. where: the data set, for errors.

    A class is the same if it has, in this order: the same name; the same synset (n01440764); the same name but for
    case and underscores; the same first name of several ("tench, Tinca tinca" and "tench"); any name of several.
    With `named` False, names are numbers: the classes' own names if these are numbers too, or else their positions.
    Raises DataError if a class is missing, if two are meant, or if two names mean one.
    """
    exact = {name: classes.index(name) for name in names if name in set(classes)}
    rest = [name for name in names if name not in exact]
    if not rest:
        return exact
    if not named:
        return _by_number(names, classes, exact, where)
    found: dict[str, int] = dict(exact)
    for name in rest:
        found[name] = _index(name, classes, where)
    meant: dict[int, str] = {}
    for name, index in found.items():
        if index in meant:
            raise DataError(
                f"{where}: expected a class of its own for {meant[index]!r} and {name!r}, got {classes[index]!r}"
            )
        meant[index] = name
    return found


def _by_number(
    names: Sequence[str], classes: tuple[str, ...], exact: Mapping[str, int], where: str
) -> Mapping[str, int]:
    """Labels are positions in the bundle's classes, unless some of these are named by numbers."""
    if exact or max(map(int, names)) >= len(classes):
        raise DataError(
            f"{where}: expected classes of the bundle ({_shown(classes)}), or numbers below {len(classes)}, "
            f"got {next(name for name in reversed(names) if name not in exact)!r}"
        )
    return {name: int(name) for name in names}


def _index(name: str, classes: tuple[str, ...], where: str) -> int:
    table = _table(classes)
    keys = _keys(name, name if is_synset(name) else None)
    if keys[0] and all(entry for entry in table.synsets):
        keys = keys[:1]  # every class has a synset: a synset that is not among them is another class
    for tier, wanted in enumerate(keys):
        found = sorted({index for key in wanted for index in table.tiers[tier].get(key, ())})
        if len(found) > 1:
            several = ", ".join(repr(classes[index]) for index in found[:3])
            raise DataError(f"{where}: expected one class of the bundle for {name!r}, got {len(found)}: {several}")
        if found:
            return found[0]
    known = not is_synset(name) or synset_names()
    hint = "" if known else " (timm has the synsets' names: pip install 'certify[torch]')"
    raise DataError(f"{where}: expected classes of the bundle ({_shown(classes)}), got {name!r}{hint}")


@dataclass(frozen=True)
class _Table:
    synsets: tuple[str | None, ...]  # of each class, where it is known
    tiers: tuple[Mapping[str, list[int]], ...]  # for each way to compare: key -> classes that have it


@functools.cache
def _table(classes: tuple[str, ...]) -> _Table:
    own = tuple(name if is_synset(name) else None for name in classes)
    synsets: tuple[str | None, ...] = imagenet_order(classes) or own
    tiers: tuple[dict[str, list[int]], ...] = ({}, {}, {}, {})
    for index, (name, synset) in enumerate(zip(classes, synsets, strict=True)):
        for tier, keys in zip(tiers, _keys(name, synset), strict=True):
            for key in keys:
                tier.setdefault(key, []).append(index)
    return _Table(synsets, tiers)


def _keys(name: str, synset: str | None) -> tuple[set[str], ...]:
    """What two names of one class have in common, the surest first."""
    text = synset_names().get(name, name) if is_synset(name) else without_number(name)
    parts = [_folded(part) for part in text.split(",")]
    return {synset} if synset else set(), {_folded(text)}, {parts[0]}, set(parts)


def _folded(text: str) -> str:
    return text.replace("_", " ").strip().casefold()


def _shown(classes: tuple[str, ...]) -> str:
    more = f", ... {len(classes)} in all" if len(classes) > _SHOWN else ""
    return ", ".join(classes[:_SHOWN]) + more
