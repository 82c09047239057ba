"""What `certify bundles pack` is given: a diffusers UNet2DModel and its scheduler, looked through.

Whatever is wrong is named by file and field.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from .denoiser import WEIGHTS, channels_and_block
from .errors import BundleError
from .files import read_object
from .pack_folders import weights_file
from .preprocessing import LARGEST_SIDE
from .schedule import PREDICTION_TYPES, Schedule

__all__ = ("check_scheduler", "copy_denoiser", "image_shape", "read_denoiser", "source_of")

# A path, and what diffusers' average of weights keeps of itself.
NOT_OF_THE_NETWORK = {
    "_name_or_path", "decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step",
    "use_ema_warmup",
}  # fmt: skip
# What some schedulers make of their betas afterwards, and its value where they leave them as they are.
OF_THE_BETAS = {"snr_shift_scale": 1.0, "use_flow_sigmas": False}
SOURCE = "source.json"  # beside the weights, from `certify bundles convert`: where they came from


def read_denoiser(folder: Path) -> dict[str, Any]:
    """Its checked config. Raises BundleError, also when its weights are not there."""
    path = folder / "config.json"
    config = read_object(path, "a folder that diffusers' UNet2DModel.save_pretrained wrote")
    if (kind := config.get("_class_name")) != "UNet2DModel":
        raise BundleError(f"{path}: _class_name: expected 'UNet2DModel', got {kind!r}")
    for field in ("class_embed_type", "num_class_embeds"):
        if config.get(field) is not None:
            raise BundleError(f"{path}: {field}: expected none (a network that needs no class), got {config[field]!r}")
    if (kind := config.get("time_embedding_type", "positional")) not in ("positional", "fourier"):
        raise BundleError(
            f"{path}: time_embedding_type: expected positional or fourier, which take any noise scale's timestep, got "
            f"{kind!r}"
        )
    weights_file(folder)
    return config


def source_of(folder: Path) -> dict[str, Any] | None:
    """What `certify bundles convert` says of a network's origin; None of one that it did not write."""
    return read_object(folder / SOURCE, "what certify bundles convert wrote") if (folder / SOURCE).is_file() else None


def image_shape(config: dict[str, Any], path: Path) -> tuple[int, int, int]:
    """(C, H, W) of the images that the network of this config takes; path: where it was read, for the error."""
    inputs, outputs, size = (config.get(field) for field in ("in_channels", "out_channels", "sample_size"))
    try:
        channels, block = channels_and_block(inputs if type(inputs) is int else 0)
    except ValueError:
        raise BundleError(
            f"{path}: in_channels: expected 1 (gray) or 3 (RGB), or one of them times a square, whose side is the "
            f"number of pixels that a space-to-depth puts into channels, got {inputs!r}"
        ) from None
    if outputs not in (inputs, 2 * (inputs or 0)):
        raise BundleError(
            f"{path}: out_channels: expected {inputs}, or {2 * (inputs or 0)} with a learned variance, got {outputs!r}"
        )
    sides: list[Any] = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(side) is int and 0 < side <= LARGEST_SIDE // block for side in sides):
        raise BundleError(
            f"{path}: sample_size: expected the images' height and width, at most {LARGEST_SIDE}, got {size!r}"
        )
    blocks = config.get("block_out_channels", [0])
    if not isinstance(blocks, list) or not blocks:
        raise BundleError(f"{path}: block_out_channels: expected a list of widths, got {blocks!r}")
    halvings = 2 ** (len(blocks) - 1)
    if any(side % halvings for side in sides):
        raise BundleError(f"{path}: sample_size: expected multiples of {halvings}, by block_out_channels, got {size!r}")
    return channels, sides[0] * block, sides[1] * block


def check_scheduler(folder: Path) -> None:
    """Raises BundleError unless it is a variance-preserving schedule of a known prediction type."""
    path = folder / "scheduler_config.json"
    config = read_object(path, "a folder that a diffusers scheduler's save_pretrained wrote")
    if config.get("beta_start") is None and config.get("trained_betas") is None:
        raise BundleError(
            f"{path}: _class_name: expected a variance-preserving scheduler with betas, as DDPMScheduler, got "
            f"{config.get('_class_name')!r}"
        )
    if (kind := config.get("prediction_type", "epsilon")) not in PREDICTION_TYPES:
        raise BundleError(f"{path}: prediction_type: expected one of {', '.join(PREDICTION_TYPES)}, got {kind!r}")
    for field, plain in OF_THE_BETAS.items():
        if config.get(field) not in (None, plain):
            raise BundleError(
                f"{path}: {field}: expected {plain} or none: a schedule of its betas alone, got {config[field]!r}"
            )
    try:
        Schedule.from_folder(folder)
    except Exception as error:
        raise BundleError(f"{path}: expected a schedule of betas in (0, 1): {error}") from error


def copy_denoiser(config: dict[str, Any], folder: Path, target: Path) -> None:
    """Its checked config, without where the network was once loaded from, which is nobody's business, and weights."""
    target.mkdir()
    kept = {key: value for key, value in config.items() if key not in NOT_OF_THE_NETWORK}
    (target / "config.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(weights_file(folder), target / WEIGHTS)
