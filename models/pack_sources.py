"""What `certify bundles pack` is given: a diffusers UNet2DModel and its scheduler, looked through.

Whatever is wrong is named by file and field.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from .errors import BundleError
from .preprocessing import read_object
from .schedule import PREDICTION_TYPES, Schedule

__all__ = ("check_scheduler", "copy_denoiser", "image_shape", "read_denoiser")

WEIGHTS = "diffusion_pytorch_model.safetensors"


def read_denoiser(folder: Path) -> dict[str, Any]:
    """Its checked config. Raises BundleError, also when its weights are not there."""
    path = folder / "config.json"
    config = read_object(path, "a folder that diffusers' UNet2DModel.save_pretrained wrote")
    if (kind := config.get("_class_name")) != "UNet2DModel":
        raise BundleError(f"{path}: _class_name: expected 'UNet2DModel', got {kind!r}")
    for field in ("class_embed_type", "num_class_embeds"):
        if config.get(field) is not None:
            raise BundleError(f"{path}: {field}: expected none (a network that needs no class), got {config[field]!r}")
    if not (folder / WEIGHTS).is_file():
        there = sorted(file.name for file in folder.iterdir() if file.name != "config.json")
        raise BundleError(
            f"{folder / WEIGHTS}: no such file (there: {', '.join(there) or 'nothing'}); expected safetensors in one "
            "file: UNet2DModel.from_pretrained(...).save_pretrained(DIR, safe_serialization=True)"
        )
    return config


def image_shape(config: dict[str, Any], path: Path) -> tuple[int, int, int]:
    """(C, H, W) of the images that the network of this config takes; path: where it was read, for the error."""
    channels: Any = config.get("in_channels")
    outputs, size = config.get("out_channels"), config.get("sample_size")
    if channels not in (1, 3):
        raise BundleError(f"{path}: in_channels: expected 1 (gray) or 3 (RGB), got {channels!r}")
    if outputs not in (channels, 2 * channels):
        raise BundleError(
            f"{path}: out_channels: expected {channels}, or {2 * channels} with a learned variance, got {outputs!r}"
        )
    sides: list[Any] = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise BundleError(f"{path}: sample_size: expected the images' height and width, got {size!r}")
    halvings = 2 ** (len(config.get("block_out_channels", ())) - 1)
    if any(side % halvings for side in sides):
        raise BundleError(f"{path}: sample_size: expected multiples of {halvings}, by block_out_channels, got {size!r}")
    return channels, sides[0], sides[1]


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
    logger = logging.getLogger("diffusers.configuration_utils")  # it warns of what other schedulers' configs have more
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        Schedule.from_folder(folder)
    except Exception as error:
        raise BundleError(f"{path}: expected a schedule of betas in (0, 1): {error}") from error
    finally:
        logger.setLevel(level)


def copy_denoiser(config: dict[str, Any], folder: Path, target: Path) -> None:
    """Its checked config, without where the network was once loaded from, which is nobody's business, and weights."""
    target.mkdir()
    kept = {key: value for key, value in config.items() if key != "_name_or_path"}
    (target / "config.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(folder / WEIGHTS, target / WEIGHTS)
