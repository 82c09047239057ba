"""Where in what the user names the denoiser, its weights and its scheduler lie: a folder of one network, or a pipeline.

FOLDER/                    config.json and weights; a scheduler_config.json beside them, in old pipelines
PIPELINE/                  unet/ (or unet_ema/, or denoiser/) and scheduler/, as diffusers' save_pretrained and
                           `certify bundles convert` write them
"""

from __future__ import annotations

from pathlib import Path

from .errors import BundleError
from .files import check_safetensors

__all__ = ("denoiser_folder", "scheduler_folder", "weights_file")

WEIGHTS = "diffusion_pytorch_model"
NETWORKS = ("denoiser", "unet", "unet_ema")  # the last: averaged weights, as diffusers' training script keeps them
CONFIG = "scheduler_config.json"
ENCODERS = ("vqvae", "vae", "movq")  # beside a network of latents, whose channels may be three as a picture's are


def denoiser_folder(given: Path) -> Path:
    """The network's own folder. Raises BundleError where a pipeline has several, or one that sees no pixels; a folder
    of none is given back.
    """
    for folder in (given, given.parent) if given.name in NETWORKS else (given,):
        if encoder := next((name for name in ENCODERS if (folder / name / "config.json").is_file()), None):
            raise BundleError(
                f"{given}: denoiser: expected a network of pixels, got one of latents, as {folder / encoder} makes them"
            )
    if (given / "config.json").is_file():
        return given
    there = [given / name for name in NETWORKS if (given / name / "config.json").is_file()]
    if len(there) > 1:
        raise BundleError(
            f"{given}: denoiser: expected one network, got {' and '.join(path.name for path in there)}; name the one "
            f"that is meant: --denoiser {there[-1]}"
        )
    return there[0] if there else given


def scheduler_folder(given: Path | None, denoiser: Path, network: Path) -> Path:
    """The folder of scheduler_config.json. given: --scheduler. denoiser: --denoiser. network: denoiser_folder's."""
    if given is not None:
        return (
            given / "scheduler" if not (given / CONFIG).exists() and (given / "scheduler" / CONFIG).exists() else given
        )
    for folder in (denoiser / "scheduler", denoiser, network.parent / "scheduler"):
        if (folder / CONFIG).is_file():
            return folder
    raise BundleError(
        f"scheduler: expected the folder of the denoiser's scheduler (--scheduler), as none is beside {denoiser}"
    )


def weights_file(folder: Path) -> Path:
    """The one safetensors file of a network, of any variant (fp16, non_ema). Raises BundleError."""
    if (plain := folder / f"{WEIGHTS}.safetensors").is_file():
        return check_safetensors(plain)
    there = sorted(path.name for path in folder.iterdir() if path.name != "config.json") if folder.is_dir() else []
    variants = [name for name in there if name.startswith(f"{WEIGHTS}.") and name.endswith(".safetensors")]
    if len(variants) == 1:
        return check_safetensors(folder / variants[0])
    if variants:
        raise BundleError(f"{folder}: expected one variant of the weights, got {', '.join(variants)}; keep one")
    raise BundleError(
        f"{plain}: no such file (there: {', '.join(there) or 'nothing'}); expected safetensors in one file: python -c "
        f"\"from diffusers import UNet2DModel as U; U.from_pretrained('{folder}').save_pretrained('{folder}', "
        "max_shard_size='99GB')\""
    )
