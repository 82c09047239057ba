"""Weights out of files that people have, without running anything that such a file could hold."""

from __future__ import annotations

import argparse
import pickle
import sys
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BundleError
from ..files import not_a_pointer

__all__ = (
    "SUFFIXES",
    "check_floats",
    "check_plain",
    "load_into",
    "load_weights",
    "not_finite",
    "read_pickled",
    "read_safetensors",
)

SUFFIXES = (".safetensors", ".pth", ".pt", ".pt2", ".bin", ".ckpt", ".tar", ".pkl")
# Where a training script keeps the network among its leftovers. As timm's own loader, averaged weights come first.
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "params_ema",
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "weights",
    "params",
    "module",
)
# Of a network inside another: DataParallel, torch.compile (either way round), a module that holds it.
WRAPPED = ("module.", "_orig_mod.")
HELD = ("model.", "net.", "network.", "backbone.", "encoder.")
AVERAGED = "ema"  # in the name of whatever holds averaged weights beside those of the last step
EXPORTED = {"archive_format", "serialized_exported_program.json"}  # in what torch.export.save wrote, now and before
COUNTERS = ("n_averaged",)  # of torch's AveragedModel, no weight
NUMBERS = ("weight", "bias", "running_mean", "running_var")  # last in the name of what a network computes with
ZIP, PICKLE = b"PK", b"\x80"  # with which what torch.save wrote begins: since 1.6, and before
SHOWN = 3


def load_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU, without wrappers. Raises BundleError."""
    try:
        not_a_pointer(path)
        raw: Any = read_safetensors(path) if path.suffix.lower() == ".safetensors" else _pickled(path)
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(f"{path}: expected weights: {error}") from error
    except Exception as error:  # a damaged file can make either reader raise anything
        raise BundleError(f"{path}: expected weights, got a file that cannot be read: {_first(error)}") from error
    for wrapper in WRAPPERS:
        if isinstance(raw, Mapping) and _holds_tensors(raw.get(wrapper)):
            raw = raw[wrapper]
            break
    if not isinstance(raw, Mapping):
        raise BundleError(f"{path}: expected a state dict (names and tensors), got {type(raw).__name__}")
    weights = {key: value for key, value in raw.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not weights:
        there = ", ".join(map(str, list(raw)[:10])) or "nothing"
        raise BundleError(
            f"{path}: expected a state dict (names and tensors), by itself or under {', '.join(WRAPPERS)}; got {there}"
        )
    plain: dict[str, Tensor] = {}
    for key, value in weights.items():
        check_plain(value, f"{path}: {key}")
        if key.endswith(NUMBERS) and not value.is_floating_point():
            raise _coded(path, key, str(value.dtype).removeprefix("torch."))
        if (name := _unwrapped(key)) in plain:
            raise BundleError(f"{path}: {name}: expected this weight once, got another as {key}; keep one of them")
        plain[name] = value
    return {name: value for name, value in plain.items() if name not in COUNTERS}


def _holds_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(entry, Tensor) for entry in value.values())


def check_floats(path: Path) -> None:
    """What a library would load from a whole safetensors file as if it were numbers. Raises BundleError."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        for key in file.keys():
            dtype = file.get_slice(key).get_dtype()
            if key.endswith(NUMBERS) and not dtype.startswith(("F", "BF")):
                raise _coded(path, key, dtype)


def _coded(path: Path, key: str, dtype: str) -> BundleError:
    return BundleError(
        f"{path}: {key}: expected a float tensor, got {dtype}: a quantised network, whose scales are elsewhere? give "
        "its weights in float32"
    )


def check_plain(tensor: Tensor, where: str) -> None:
    """Raises BundleError for one whose values do not simply lie there: sparse, quantised, complex or absent ones."""
    other = tensor.is_nested or tensor.is_quantized or tensor.is_complex() or tensor.is_meta
    if other or tensor.layout != torch.strided:
        kind = "nested" if tensor.is_nested else f"{tensor.layout}, {tensor.dtype}, {tensor.device.type}"
        raise BundleError(f"{where}: expected a plain tensor, got another ({kind}); save it dense, in float32")


def not_finite(net: nn.Module) -> list[str]:
    """The first of a network's weights that have other values."""
    weights = ((name, value) for name, value in net.state_dict().items() if name.endswith(NUMBERS))
    return [name for name, value in weights if not torch.isfinite(value).all()][:SHOWN]


def read_safetensors(path: Path) -> dict[str, Tensor]:
    import safetensors.torch

    tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    return tensors


def read_pickled(path: Path, *, mmap: bool = False) -> Any:
    """What torch.save wrote, tensors and plain objects alone, on the CPU. Raises what torch.load does."""
    with warnings.catch_warnings():
        # That sparse tensors take long to check, that a pickle is not torch's: such are refused anyway.
        warnings.filterwarnings("ignore", message="(?s).*invariants", category=UserWarning)
        warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _pickled(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(2)
    if not head.startswith((ZIP, PICKLE)):
        raise BundleError(
            f"{path}: expected weights as torch.save writes them, got {'another kind of file' if head else 'no bytes'}"
        )
    there = _in_archive(path)
    if "constants.pkl" not in there and there & EXPORTED:
        raise BundleError(
            f"{path}: expected weights, got a program of torch.export; either write its weights, where you trust it: "
            f"python -c \"import torch; torch.save(torch.export.load('{path.name}').state_dict, 'weights.pth')\", and "
            "give --classifier weights.pth --architecture NAME, or export the network to ONNX (torch.onnx.export) and "
            "give that file"
        )
    if "constants.pkl" in there:
        raise BundleError(
            f"{path}: expected weights, got a TorchScript program, which would run code of its own; either write its "
            "weights, where you trust it: python -c \"import torch; torch.save(torch.jit.load('"
            f"{path.name}').state_dict(), 'weights.pth')\", and give --classifier weights.pth --architecture NAME, or "
            "export the network to ONNX (torch.onnx.export) and give that file"
        )
    try:
        # argparse's Namespace: the options of a training script, in timm's, DeiT's and MAE's checkpoints. It only has
        # attributes, and is dropped.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return read_pickled(path)
    except pickle.UnpicklingError as error:
        raise BundleError(
            f"{path}: expected weights alone (torch.load(..., weights_only=True)), got a pickle that needs more, and "
            "could run code; where you trust it, write its weights: python -c \"import torch; m = torch.load('"
            f"{path.name}', weights_only=False, map_location='cpu'); torch.save(m.state_dict() if hasattr(m, "
            "'state_dict') else m['state_dict'], 'weights.pth')\", and give --classifier weights.pth"
        ) from error


def _in_archive(path: Path) -> set[str]:
    """Names without folders, in a zip; none in another file."""
    if not zipfile.is_zipfile(path):
        return set()
    with zipfile.ZipFile(path) as archive:
        return {name.rpartition("/")[2] for name in archive.namelist()}


def _unwrapped(key: str) -> str:
    while key.startswith(WRAPPED):
        key = key.partition(".")[2]
    return key


def load_into(net: nn.Module, weights: Mapping[str, Tensor], path: Path, architecture: str) -> None:
    """Every weight that the network has, and no other. Raises BundleError naming those that do not fit."""
    wanted = net.state_dict()
    given = _let_go(weights, wanted.keys(), f"{path}: expected the weights of {architecture}")
    if given.keys() - wanted.keys():
        given = _renamed(net, given)
    # Old BatchNorms do not count their batches; nothing is computed of it.
    missing = [name for name in wanted.keys() - given.keys() if not name.endswith("num_batches_tracked")]
    other = [name for name in given.keys() - wanted.keys()]
    shapes = [
        f"{name} {tuple(given[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted.keys() & given.keys()
        if given[name].shape != wanted[name].shape
    ]
    found = [
        f"{title} {', '.join(sorted(names)[:SHOWN])}{', ...' if len(names) > SHOWN else ''} ({len(names)})"
        for title, names in (("missing:", missing), ("not of it:", other), ("of another shape:", shapes))
        if names
    ]
    if found:
        raise BundleError(
            f"{path}: expected the weights of {architecture}, got {'; '.join(found)}; --architecture and --model-args "
            "say what they are of"
        )
    net.load_state_dict(given, strict=False)


def _let_go(weights: Mapping[str, Tensor], names: Collection[str], where: str) -> dict[str, Tensor]:
    """Without what stands before every name and is not the network's own; of several, the averaged network.

    names: the network's. Raises BundleError where several networks are there.
    """
    wanted = [name for name in names if not name.endswith("num_batches_tracked")]
    ends = {key.removesuffix(wanted[0]) for key in weights if key.endswith(wanted[0])}
    whole = sorted(end for end in ends if not end or end[-1] == "." if all(end + name in weights for name in wanted))
    if len(whole) > 1 and "" not in whole:
        averaged = [prefix for prefix in whole if AVERAGED in prefix]
        if len(averaged) != 1:
            raise BundleError(f"{where} once, got them at {', '.join(whole)}: keep one of them")
        whole = averaged
    if len(whole) == 1:  # of a module that holds the network among others, too
        return {key.removeprefix(whole[0]): value for key, value in weights.items() if key.startswith(whole[0])}
    given = dict(weights)
    while not given.keys() & set(names):
        prefix = next((prefix for prefix in HELD if all(key.startswith(prefix) for key in given)), None)
        if prefix is None:
            break
        given = {key.removeprefix(prefix): value for key, value in given.items()}
    return given


def _renamed(net: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """By timm's own table, where it knows the names of a network's first authors."""
    rename = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if rename is None:
        return weights
    try:
        renamed: dict[str, Tensor] = rename(dict(weights), net)
    except Exception:  # it expects the authors' names, and these are others
        return weights
    return renamed


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
