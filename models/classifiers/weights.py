"""Weights out of files that people have, without running anything that such a file could hold."""

from __future__ import annotations

import argparse
import pickle
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BundleError
from ..files import not_a_pointer

__all__ = ("SUFFIXES", "check_plain", "load_into", "load_weights", "read_pickled", "read_safetensors")

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl")
# Where a training script keeps the network among its leftovers. As timm's own loader, averaged weights come first.
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "weights",
)
# Of a network inside another: DataParallel, torch.compile (either way round), a module that holds it.
WRAPPED = ("module.", "_orig_mod.")
HELD = ("model.", "net.", "network.", "backbone.", "encoder.")
COUNTERS = ("n_averaged",)  # of torch's AveragedModel, no weight
SHOWN = 3


def load_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU, without wrappers. Raises BundleError."""
    try:
        not_a_pointer(path)
        raw: Any = read_safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(f"{path}: expected weights: {error}") from error
    except Exception as error:  # a damaged file can make either reader raise anything
        raise BundleError(f"{path}: expected weights, got a file that cannot be read: {_first(error)}") from error
    for wrapper in WRAPPERS:
        if isinstance(raw, Mapping) and isinstance(raw.get(wrapper), Mapping):
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
    for key, value in weights.items():
        check_plain(value, f"{path}: {key}")
    return {_unwrapped(key): value for key, value in weights.items() if key not in COUNTERS}


def check_plain(tensor: Tensor, where: str) -> None:
    """Raises BundleError for one whose values do not simply lie there: sparse, quantised, complex or absent ones."""
    other = tensor.is_nested or tensor.is_quantized or tensor.is_complex() or tensor.is_meta
    if other or tensor.layout != torch.strided:
        kind = "nested" if tensor.is_nested else f"{tensor.layout}, {tensor.dtype}, {tensor.device.type}"
        raise BundleError(f"{where}: expected a plain tensor, got another ({kind}); save it dense, in float32")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    import safetensors.torch

    tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    return tensors


def read_pickled(path: Path, *, mmap: bool = False) -> Any:
    """What torch.save wrote, tensors and plain objects alone, on the CPU. Raises what torch.load does."""
    with warnings.catch_warnings():
        # That sparse tensors take long to check: they are refused anyway (check_plain).
        warnings.filterwarnings("ignore", message="(?s).*invariants", category=UserWarning)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _pickled(path: Path) -> Any:
    if _is_torchscript(path):
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
    except (pickle.UnpicklingError, EOFError) as error:
        raise BundleError(
            f"{path}: expected weights alone (torch.load(..., weights_only=True)), got a pickle that needs more, and "
            "could run code; where you trust it, write its weights: python -c \"import torch; m = torch.load('"
            f"{path.name}', weights_only=False, map_location='cpu'); torch.save(m.state_dict() if hasattr(m, "
            "'state_dict') else m['state_dict'], 'weights.pth')\", and give --classifier weights.pth"
        ) from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())


def _unwrapped(key: str) -> str:
    while key.startswith(WRAPPED):
        key = key.partition(".")[2]
    return key


def load_into(net: nn.Module, weights: Mapping[str, Tensor], path: Path, architecture: str) -> None:
    """Every weight that the network has, and no other. Raises BundleError naming those that do not fit."""
    wanted = net.state_dict()
    given = _let_go(weights, set(wanted))
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


def _let_go(weights: Mapping[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """Without what stands before every name and is not the network's own."""
    given = dict(weights)
    for held in HELD:  # of a module that holds the network among others
        inner = {key.removeprefix(held): value for key, value in given.items() if key.startswith(held)}
        if inner and wanted <= inner.keys():
            return inner
    while not given.keys() & wanted:
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
