"""The field `remote` of a new bundle: what the endpoint says of itself, and what the packer knows besides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BundleError
from .declared import PROTOCOLS, Remote, parse_url
from .endpoint import Endpoint
from .limits import Limits
from .oip_http import DATATYPES

__all__ = ("declare", "drafted")

GIVEN = ("input", "output", "max_batch")  # what a packer may say


def declare(
    url: str, given: Mapping[str, Any], shape: tuple[int, int, int], classes: Sequence[str] | None, limits: Limits
) -> tuple[Remote, tuple[str, ...]]:
    """(the field, the classes' names), after the endpoint was asked known pictures.

    given: parts of the field that its metadata does not say. shape: (C, H, W) of the bundle's images. classes: None
    where their number is to come from the metadata. Raises BundleError for what does not fit, RemoteError if it
    cannot be asked or answers as no function of a picture would.
    """
    endpoint = Endpoint(url, limits)
    try:
        about = endpoint.about()
        draft, outputs = drafted(url, given, shape, about)
        if classes is None and outputs is None:
            raise BundleError(
                "classes: expected their names (--classes), since the endpoint does not say how many it has"
            )
        names = tuple(classes or map(str, range(outputs or 0)))
        if outputs is not None and len(names) != outputs:
            raise BundleError(f"classes: expected {outputs} names, as {url} has scores, got {len(names)}")
        return dataclasses.replace(draft, known=endpoint.probe(draft, names)), names
    finally:
        endpoint.close()


def drafted(
    url: str, given: Mapping[str, Any], shape: tuple[int, int, int], about: Mapping[str, Any]
) -> tuple[Remote, int | None]:
    """(the field without known pictures' classes, the number of scores if it is known). Raises BundleError."""
    try:
        return _drafted(url, given, shape, about)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise BundleError(f"remote: expected values as docs/bundles.md has them, got {dict(given)}: {error}") from error


def _drafted(
    url: str, given: Mapping[str, Any], shape: tuple[int, int, int], about: Mapping[str, Any]
) -> tuple[Remote, int | None]:
    for name in given:
        if name not in GIVEN:
            raise BundleError(f"remote: {name}: expected one of {', '.join(GIVEN)}, got {name}")
    protocol = parse_url(url).protocol
    wanted = {name: dict(given.get(name, {})) for name in ("input", "output")}
    facts: dict[str, Any] = {"url": url.rstrip("/"), "reported": dict(about)}
    sends = _tensor(about.get("inputs", []), wanted["input"], "input") if protocol != "json" else {}
    gives = _tensor(about.get("outputs", []), wanted["output"], "output") if protocol != "json" else {}
    facts["input"], batch = _input(wanted["input"], sends, shape, protocol)
    facts["output"], scores = _output(wanted["output"], gives)
    facts["max_batch"] = given.get("max_batch", 1 if batch == 1 else 64)
    if batch not in (None, -1, 1):
        raise BundleError(f"{url}: expected an input of any number of pictures (-1), or of one, got {batch}")
    try:
        remote = Remote.of(facts)
    except BundleError as error:
        raise BundleError(f"remote: {error}") from error
    if remote.input.channels != shape[0]:
        raise BundleError(
            f"remote: input.channels: expected {shape[0]}, as the denoiser has, got {remote.input.channels}"
        )
    return remote, scores


def _tensor(reported: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any], side: str) -> Mapping[str, Any]:
    """Which of the model's tensors is meant; without metadata what the packer says of it. Raises BundleError."""
    name = wanted.get("name")
    if not reported:
        if not name:
            raise BundleError(
                f"remote: {side}.name: expected a tensor's name, since the endpoint gives no metadata of such a model"
            )
        return {"name": name}
    named = {str(tensor["name"]): tensor for tensor in reported}
    if name is None and len(named) == 1:
        return next(iter(named.values()))
    if name not in named or (side == "input" and len(named) > 1):
        several = " (a model that takes one alone)" if side == "input" and len(named) > 1 else ""
        raise BundleError(f"remote: {side}.name: expected one of {', '.join(named)}{several}, got {name!r}")
    return named[name]


def _input(
    wanted: dict[str, Any], tensor: Mapping[str, Any], shape: tuple[int, int, int], protocol: str
) -> tuple[dict[str, Any], int | None]:
    """(the field's `input`, pictures in a call by the metadata: -1 of any number, None unknown)."""
    channels = wanted.get("channels", shape[0])
    dtypes = {datatype: name for name, datatype in DATATYPES.items()}
    told = tensor.get("datatype")
    if told is not None and told not in dtypes:
        raise BundleError(f"input {tensor['name']}: datatype: expected {' or '.join(dtypes)}, got {told}")
    dtype = wanted.get("dtype", dtypes.get(told or "", PROTOCOLS[protocol][0]))
    if told is not None and DATATYPES.get(dtype) != told:
        raise BundleError(f"remote: input.dtype: expected {dtypes[told]}, as the endpoint says, got {dtype}")
    sides = list(tensor.get("shape", ()))
    layout = wanted.get("layout") or _layout(sides, channels, str(tensor.get("name", "")))
    size = list(wanted.get("size", shape[1:]))
    fixed = {"NCHW": sides[2:4], "NHWC": sides[1:3]}.get(layout, []) if len(sides) == 4 else []
    if "size" not in wanted:
        size = [ours if theirs == -1 else theirs for ours, theirs in zip(size, fixed, strict=True)] if fixed else size
    numbers = {"NCHW": [channels, *size], "NHWC": [*size, channels], "flat": [channels * size[0] * size[-1]]}
    expected = numbers.get(layout, [])
    if sides and not (
        len(sides) == 1 + len(expected) and all(a in (-1, b) for a, b in zip(sides[1:], expected, strict=True))
    ):
        raise BundleError(
            f"remote: input: expected shape {sides}, as the endpoint says, got [-1, {_text(expected)}] ({layout})"
        )
    whole = dtype != "fp32"
    defaults = {"scale": 255.0 if whole else 1.0, "mean": [0.0] * channels, "std": [1.0] * channels}
    named = {} if protocol == "json" else {"name": tensor["name"]}
    return {
        **defaults, **wanted, **named, "dtype": dtype, "layout": layout, "channels": channels, "size": size,
    }, (sides[0] if sides else None)  # fmt: skip


def _layout(sides: list[int], channels: int, name: str) -> str:
    """By the place of the channels. Raises BundleError where that does not say it."""
    if not sides:
        return "NCHW"
    if len(sides) == 2:
        return "flat"
    fits = [layout for layout, place in (("NCHW", 1), ("NHWC", 3)) if len(sides) == 4 and sides[place] == channels]
    if len(fits) != 1:
        raise BundleError(
            f"remote: input.layout: expected NCHW, NHWC or flat to be said, since {name}'s shape {sides} of {channels} "
            f"channels fits {' and '.join(fits) or 'none'}"
        )
    return fits[0]


def _output(wanted: dict[str, Any], tensor: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
    """(the field's `output`, the number of scores if the metadata has it)."""
    whole = str(tensor.get("datatype", "")).startswith(("INT", "UINT"))
    sides = list(tensor.get("shape", ()))
    kind = wanted.get("kind", "labels" if whole and sides[1:] in ([], [1]) else "scores")
    named = {"name": tensor["name"]} if tensor else {}
    scores = sides[1] if kind == "scores" and len(sides) == 2 and sides[1] > 0 else None
    return {**wanted, **named, "kind": kind}, scores


def _text(sides: list[int]) -> str:
    return ", ".join(map(str, sides))
