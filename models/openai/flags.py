"""The flags of OpenAI's scripts, in their own words and with their defaults.

What no weight reveals is among them: how many heads there are, in which order their queries, keys and values lie,
whether the network sees a rescaled timestep, and what it predicts. The two repositories differ in defaults.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import BundleError

__all__ = ("FAMILIES", "Family", "Flags", "read_flags")

Family = Literal["improved", "guided"]
FAMILIES: tuple[Family, ...] = get_args(Family)

# model_and_diffusion_defaults() of each repository's script_util.py, as far as they change the function.
_SHARED: dict[str, Any] = {
    "image_size": 64,
    "num_channels": 128,
    "num_res_blocks": 2,
    "num_heads": 4,
    "num_heads_upsample": -1,
    "attention_resolutions": "16,8",
    "learn_sigma": False,
    "class_cond": False,
    "diffusion_steps": 1000,
    "noise_schedule": "linear",
    "predict_xstart": False,
    "use_scale_shift_norm": True,
}
_GUIDED: dict[str, Any] = {
    "num_head_channels": -1,
    "channel_mult": "",
    "resblock_updown": False,
    "use_new_attention_order": False,
}
DEFAULTS: dict[Family, dict[str, Any]] = {
    "improved": {**_SHARED, "rescale_timesteps": True},
    "guided": {**_SHARED, **_GUIDED, "rescale_timesteps": False},
}
# Of training, of sampling in many steps, and of how it is computed: the one-step denoiser is the same with any of them.
WITHOUT_EFFECT = {
    "dropout", "sigma_small", "timestep_respacing", "use_kl", "rescale_learned_sigmas", "use_checkpoint", "use_fp16",
    "data_dir", "schedule_sampler", "lr", "weight_decay", "lr_anneal_steps", "batch_size", "microbatch", "ema_rate",
    "log_interval", "save_interval", "resume_checkpoint", "fp16_scale_growth", "clip_denoised", "num_samples",
    "use_ddim", "model_path", "classifier_path", "classifier_scale", "base_name", "log_dir",
}  # fmt: skip
# channel_mult where it is not given, by image_size. guided's 512 begins with a half: see models.openai.unet.
MULTIPLES: dict[Family, dict[int, tuple[float, ...]]] = {
    "improved": {256: (1, 1, 2, 2, 4, 4), 64: (1, 2, 3, 4), 32: (1, 2, 2, 2)},
    "guided": {
        512: (0.5, 1, 1, 2, 2, 4, 4),
        256: (1, 1, 2, 2, 4, 4),
        128: (1, 1, 2, 3, 4),
        64: (1, 2, 3, 4),
    },
}
# Far beyond any checkpoint: what is larger is a slip, and would be built before it is compared.
MOST = {"image_size": 4096, "num_channels": 4096, "num_res_blocks": 64, "diffusion_steps": 2**20}
LARGEST = 4096.0  # of a list's numbers: pixels, or times num_channels


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What the flags say. Sizes are pixels."""

    image_size: int
    num_channels: int
    num_res_blocks: int
    num_heads: int
    num_heads_upsample: int  # -1: as num_heads
    num_head_channels: int  # -1: num_heads counts
    attention_resolutions: tuple[int, ...]
    channel_mult: tuple[float, ...]
    learn_sigma: bool
    class_cond: bool
    diffusion_steps: int
    noise_schedule: str
    predict_xstart: bool
    rescale_timesteps: bool
    use_scale_shift_norm: bool
    resblock_updown: bool
    use_new_attention_order: bool


def read_flags(text: str, family: str | None) -> tuple[Flags, dict[str, Any]]:
    """From a JSON file of them, or from themselves as the scripts take them: "--image_size 32 --num_channels 128 ...".

    family: whose scripts; None = told by the flags. Returns them with the defaults, and as they were given. Raises
    BundleError naming the flag.
    """
    given = _from_text(text) if text.lstrip().startswith("--") else _from_file(Path(text))
    chosen = _family(given, family)
    defaults = DEFAULTS[chosen]
    if unknown := sorted(given.keys() - defaults.keys() - WITHOUT_EFFECT):
        raise BundleError(f"flags: {unknown[0]}: expected a flag of {chosen}-diffusion's scripts, got {unknown[0]!r}")
    words = {**_GUIDED, **defaults, **{name: value for name, value in given.items() if name in defaults}}
    words = {name: _like(_TYPES[name], name, value) for name, value in words.items()}
    resolutions = _numbers("attention_resolutions", words["attention_resolutions"])
    if any(resolution < 1 or not resolution.is_integer() for resolution in resolutions):
        raise BundleError(f"flags: attention_resolutions: expected pixels >= 1, got {given['attention_resolutions']!r}")
    words["attention_resolutions"] = tuple(map(int, resolutions))
    words["channel_mult"] = _multiples(words["channel_mult"], chosen, words["image_size"])
    for name, most in MOST.items():
        if not 1 <= words[name] <= most:
            raise BundleError(f"flags: {name}: expected 1 to {most}, got {words[name]}")
    return Flags(**words), given


_TYPES = {name: type(value) for name, value in {**_GUIDED, **DEFAULTS["improved"]}.items()}


def _from_file(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(
            f"flags: expected a JSON file, or the flags themselves (--image_size 32 ...): {error}"
        ) from error
    if not isinstance(given, dict):
        raise BundleError(f"{path}: expected a JSON object of flags, got {type(given).__name__}")
    return given


def _from_text(text: str) -> dict[str, Any]:
    try:
        words = shlex.split(text)
    except ValueError as error:  # a quote that is not closed
        raise BundleError(f"flags: expected --NAME VALUE for each, got {text!r}: {error}") from error
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    names, values = parts[::2], parts[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise BundleError(f"flags: expected --NAME VALUE for each, got {text!r}")
    return {name.removeprefix("--"): value for name, value in zip(names, values, strict=True)}


def _family(given: Mapping[str, Any], told: str | None) -> Family:
    """Where the flags do not tell and it matters, it is asked for."""
    if told is not None:
        if told not in FAMILIES:
            raise BundleError(f"family: expected {' or '.join(FAMILIES)}, got {told!r}")
        return "improved" if told == "improved" else "guided"
    if given.keys() & _GUIDED.keys():
        return "guided"
    if "sigma_small" in given:  # improved's alone
        return "improved"
    steps = str(given.get("diffusion_steps", _SHARED["diffusion_steps"]))
    if "rescale_timesteps" in given or steps == "1000":  # the one default that would differ, where it has an effect
        return "guided" if str(given.get("image_size")) in ("128", "512") else "improved"
    raise BundleError(
        "family: expected improved or guided (--family), since these flags are of both, and what is left out differs: "
        "rescale_timesteps is True by default in improved-diffusion, False in guided-diffusion"
    )


def _like(kind: type, name: str, value: Any) -> Any:
    """A flag's value, or its text as the scripts read it."""
    text = str(value).strip().lower()
    if kind is bool:
        if text in ("yes", "true", "t", "y", "1"):
            return True
        if text in ("no", "false", "f", "n", "0"):
            return False
        raise BundleError(f"flags: {name}: expected True or False, got {value!r}")
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise BundleError(f"flags: {name}: expected a whole number, got {value!r}") from None
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _numbers(name: str, text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = [math.inf]
    if not all(0 <= number <= LARGEST for number in numbers):
        raise BundleError(f"flags: {name}: expected numbers with commas between, got {text!r}")
    return numbers


def _multiples(text: str, family: Family, size: int) -> tuple[float, ...]:
    if text:
        return tuple(_numbers("channel_mult", text))
    if size not in MULTIPLES[family]:
        sizes = ", ".join(map(str, sorted(MULTIPLES[family])))
        raise BundleError(
            f"flags: channel_mult: expected it for an image_size of {size}, since {family}-diffusion has a default for "
            f"{sizes} only"
        )
    return MULTIPLES[family][size]
