"""`certify bundles convert openai`: a checkpoint and its flags become a diffusers denoiser and its scheduler.

The weights are those of the checkpoint, value for value; a learned variance stays in the last channels, where the
denoiser leaves it. Whatever does not fit is named by tensor and flag before anything is written.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..classifiers.weights import check_plain, read_pickled, read_safetensors
from ..denoiser import WEIGHTS
from ..errors import BundleError
from ..files import not_a_pointer
from ..pack_sources import SOURCE
from ..write import whole_folder
from .flags import Flags, read_flags
from .unet import Part, configuration, parts

__all__ = ("convert",)

NETWORK_STEPS = 1000  # to which rescale_timesteps brings any number of them


def convert(checkpoint: Path, out: Path, *, flags: str, family: str | None = None) -> None:
    """Write out/denoiser and out/scheduler, whole or not at all. flags, family: as for read_flags.

    Raises BundleError for flags or a checkpoint that are not as expected, and for a network that UNet2DModel cannot
    hold.
    """
    from diffusers import UNet2DModel
    from safetensors.torch import save_file

    read, given = read_flags(flags, family)
    arguments = configuration(read)
    betas = _betas(read)
    with torch.device("meta"):
        empty = UNet2DModel(**arguments)
    with whole_folder(out) as folder:
        weights = _renamed(_load(checkpoint), read, empty.state_dict(), checkpoint)
        (folder / "denoiser").mkdir()
        empty.save_config(str(folder / "denoiser"))
        save_file(weights, folder / "denoiser" / WEIGHTS, metadata={"format": "pt"})
        with checkpoint.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        source = {"kind": "openai", "file": checkpoint.name, "sha256": digest, "flags": given}
        if family is not None:
            source["family"] = family
        _write(folder / "denoiser" / SOURCE, source)
        (folder / "scheduler").mkdir()
        _write(folder / "scheduler" / "scheduler_config.json", _scheduler(read, betas))


def _write(path: Path, body: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def _scheduler(flags: Flags, betas: NDArray[np.float64]) -> dict[str, Any]:
    """As DDPMScheduler's, with the betas in full: diffusers would sum them up in float32."""
    config: dict[str, Any] = {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": flags.diffusion_steps,
        "prediction_type": "sample" if flags.predict_xstart else "epsilon",
        "clip_sample": True,
        "trained_betas": betas.tolist(),
    }
    if flags.rescale_timesteps and flags.diffusion_steps != NETWORK_STEPS:
        config["timestep_scale"] = NETWORK_STEPS / flags.diffusion_steps
    return config


def _betas(flags: Flags) -> NDArray[np.float64]:
    """get_named_beta_schedule() of gaussian_diffusion.py, float64."""
    steps = flags.diffusion_steps
    match flags.noise_schedule:
        case "linear":  # Ho et al. (2020), who have 1,000 steps
            scale = 1000 / steps
            betas = np.linspace(scale * 0.0001, scale * 0.02, steps, dtype=np.float64)
        case "cosine":  # Nichol and Dhariwal (2021), equation 17
            shares = [math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(steps + 1)]
            betas = np.array([min(1 - b / a, 0.999) for a, b in zip(shares[:-1], shares[1:], strict=True)])
        case other:
            raise BundleError(f"flags: noise_schedule: expected linear or cosine, got {other!r}")
    if not ((betas > 0) & (betas < 1)).all():
        raise BundleError(
            f"flags: diffusion_steps: expected more steps for a {flags.noise_schedule} schedule, got {steps}"
        )
    return betas


def _load(path: Path) -> dict[str, Tensor]:
    try:
        state = _read(not_a_pointer(path))
    except BundleError:
        raise
    except Exception as error:  # a damaged file can make either reader raise anything
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BundleError(
            f"{path}: expected a state dict that torch.load(weights_only=True) reads, got: {text}"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BundleError(
            f"{path}: expected a state dict, names and tensors, as the scripts save it, got another object"
        )
    return {str(name): tensor for name, tensor in state.items()}


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        return read_pickled(path, mmap=True)
    except RuntimeError:  # torch before 1.6 wrote no zip, which alone can be mapped
        return read_pickled(path)


def _renamed(state: dict[str, Tensor], flags: Flags, expected: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """float32, each a tensor of its own. expected: UNet2DModel's names and shapes."""
    left, weights = set(state), {}
    for part in parts(flags):
        for kind in ("weight", "bias"):
            names = [f"{ours}.{kind}" for ours in part.ours]
            if names[0] not in expected:  # a shortcut where the width stays
                continue
            theirs = f"{part.theirs}.{kind}"
            if theirs in state:
                check_plain(state[theirs], f"{path}: {theirs}")
            else:
                raise BundleError(f"{path}: expected {theirs}, {_by(theirs)}; it is not there")
            left.discard(theirs)
            weights.update(_values(part, state[theirs], {name: expected[name] for name in names}, f"{path}: {theirs}"))
    if left:
        name = min(left)
        raise BundleError(f"{path}: {name}: expected no such tensor, {_by(name)}{_why(name)}")
    if missing := sorted(expected.keys() - weights.keys()):
        raise BundleError(f"{path}: no tensor for {missing[0]} of UNet2DModel")
    return weights


def _values(part: Part, tensor: Tensor, wanted: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Of one of their tensors: one of ours, or a head's rows to each of three."""
    rows = sum(like.shape[0] for like in wanted.values())
    like = next(iter(wanted.values()))
    full = [rows, *like.shape[1:]]
    flat = tensor.squeeze(-1) if tensor.ndim == like.ndim + 1 and tensor.shape[-1] == 1 else tensor  # a Conv1d of 1
    if list(flat.shape) != full:
        raise BundleError(f"{where}: expected a shape of {full}, {_by(where)}, got {list(flat.shape)}")
    if not torch.isfinite(flat).all():
        raise BundleError(f"{where}: expected finite values")
    if len(wanted) == 1:
        return {next(iter(wanted)): flat.to(torch.float32, copy=True).contiguous()}
    heads = flat.reshape(part.heads, 3, -1, *flat.shape[1:])
    return {
        name: heads[:, at].reshape(like.shape).to(torch.float32, copy=True).contiguous()
        for at, (name, like) in enumerate(wanted.items())
    }


def _by(name: str) -> str:
    """Which flags say so."""
    if "emb_layers" in name:
        return "by num_channels, channel_mult and use_scale_shift_norm"
    if name.endswith(("out.2.weight", "out.2.bias")):
        return "by num_channels and learn_sigma"
    if any(part in name for part in (".qkv", ".norm.", ".proj_out")):
        return "by image_size, attention_resolutions and channel_mult"
    return "by num_channels, channel_mult, num_res_blocks, resblock_updown and attention_resolutions"


def _why(name: str) -> str:
    return (
        ": a class-conditional network, which needs the label that is to be found out"
        if name == "label_emb.weight"
        else ""
    )
