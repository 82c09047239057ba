"""The classifiers that `certify bundles pack` is given: one, one of each sigma, or one over the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .bundle import own_classifier
from .classifiers import Taken, Told, take
from .errors import BundleError
from .remote.limits import Limits
from .remote.packing import declare

__all__ = ("Given", "RemoteClassifier", "Understood", "listed", "put")

Shape = tuple[int, int, int]  # (C, H, W) of the pictures


@dataclass(frozen=True, kw_only=True)
class RemoteClassifier:
    """A classifier that is asked over the network."""

    url: str  # models.remote.declared.parse_url
    given: Mapping[str, Any] = field(default_factory=dict)  # models.remote.packing.declare
    limits: Limits = field(default_factory=Limits)


Given = str | Mapping[float, str] | RemoteClassifier


@dataclass(frozen=True, kw_only=True)
class Understood:
    """What was made of them."""

    users: Mapping[str, str]  # what was given, by its folder in the bundle
    taken: Mapping[str, Taken]  # the same folders; none over the network
    classes: tuple[str, ...]
    shape: Shape
    source: Mapping[str, Any]  # for the manifest's provenance
    remote: Mapping[str, Any] = field(default_factory=dict)  # the manifest's field


def put(
    classifier: Given, fresh: Path, sigmas: tuple[float, ...], shape: Shape | None, told: Told,
    classes: Sequence[str] | None,
) -> Understood:  # fmt: skip
    """Write their folders into the bundle `fresh`; one over the network is asked.

    shape: None = the finest classifier's own. classes: None = its names, or numbers. Raises BundleError, RemoteError.
    """
    if isinstance(classifier, RemoteClassifier):
        return _asked(classifier, shape, told, classes)
    users = _by_folder(classifier, sigmas)
    taken: dict[str, Taken] = {}
    for folder, source in users.items():
        (fresh / folder).parent.mkdir(exist_ok=True)
        taken[folder] = take(source, fresh / folder, shape, told, None if classes is None else len(classes))
        shape = shape or taken[folder].preprocessing.input_size
    assert shape is not None
    by_sigma = {folder.rpartition("/")[2]: dict(one.source) for folder, one in taken.items()}
    return Understood(
        users=users,
        taken=taken,
        classes=_classes(classes, users, taken),
        shape=shape,
        source=by_sigma.get("classifier", by_sigma),
    )


def _asked(classifier: RemoteClassifier, shape: Shape | None, told: Told, classes: Sequence[str] | None) -> Understood:
    if shape is None:
        raise BundleError("input: expected C,H,W of the pictures, which neither a denoiser nor a local classifier says")
    told.refuse(told.given, "--remote says how a classifier over the network takes pictures")
    remote, names = declare(classifier.url, classifier.given, shape, classes, classifier.limits)
    source = {"kind": "over the network", "url": remote.url}
    return Understood(users={}, taken={}, classes=names, shape=shape, source=source, remote=remote.as_json())


def _by_folder(classifier: str | Mapping[float, str], sigmas: tuple[float, ...]) -> dict[str, str]:
    """What was given, by its folder in the bundle, the finest scale's first. Raises BundleError."""
    if isinstance(classifier, str):
        return {"classifier": classifier}
    if set(classifier) != set(sigmas):
        raise BundleError(
            f"classifier: expected one, or one of each sigma {listed(sigmas)}, got them of {listed(classifier)}"
        )
    if len(sigmas) == 1:
        return {"classifier": classifier[sigmas[0]]}
    return {own_classifier(sigma): classifier[sigma] for sigma in sigmas}


def _classes(wanted: Sequence[str] | None, given: Mapping[str, str], taken: Mapping[str, Taken]) -> tuple[str, ...]:
    """Names of the classes: the given ones, the first classifier's, or numbers."""
    first, found = next(iter(given.values())), next(iter(taken.values()))
    for folder, source in given.items():
        if (outputs := taken[folder].outputs) != found.outputs:
            raise BundleError(f"classifier: {source}: expected {found.outputs} outputs, as {first} has, got {outputs}")
    names = tuple(wanted or found.labels or map(str, range(found.outputs)))
    if len(names) != found.outputs:
        raise BundleError(f"classes: expected {found.outputs} names, as {first} has outputs, got {len(names)}")
    return names


def listed(values: Iterable[object]) -> str:
    return ",".join(map(str, values))
