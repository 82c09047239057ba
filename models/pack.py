"""Make a bundle of a diffusers UNet2DModel folder and a timm classifier: `certify bundles pack`.

Everything that can be wrong is looked for before anything is written, and named by file and field. With images, the
networks are tried: does the denoiser denoise, and does the classifier still know what it sees?
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .bundle import Manifest, file_digests, save_manifest
from .errors import BundleError
from .pipeline import Pipeline
from .runtime import RuntimeOptions, load_pipeline
from .schedule import Schedule

__all__ = ("ScaleTest", "pack", "self_test")

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
# How many times nearer to the clean images, at the coarsest scale, another prediction type must come before the config
# counts as wrong. At fine scales epsilon and v are nearly the same, and either reading will do; at 0.5, the digits
# bundle (v) is 1.2 times better than read wrongly.
CLEARLY = 1.15
WEIGHTS = "diffusion_pytorch_model.safetensors"
_TEST_SEED = 2310_16779


@dataclass(frozen=True, kw_only=True)
class ScaleTest:
    """One scale of the self-test. Errors are mean squares over [0, 1] pixels."""

    sigma: float
    agreement: float  # share of images whose clean and denoised class are the same
    right: float | None  # share whose denoised class is the label, where labels were given
    noisy_error: float
    denoised_error: float


Trial = tuple[NDArray[np.float32], Sequence[int] | None]  # images (N, C, H, W) in [0, 1], and their labels
Report = tuple[float | None, list[ScaleTest]]  # clean accuracy, where labels are given; a test for each scale


def pack(
    *,
    denoiser: Path,
    scheduler: Path,
    classifier: str,
    sigmas: Sequence[float],
    out: Path,
    name: str | None = None,
    version: str = "1",
    classes: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
    final: str = "plurality",
    dtype: str = "float32",
    trial: Callable[[Manifest], Trial] | None = None,
) -> tuple[Manifest, Report | None]:
    """Write the bundle `out`, whole or not at all, and try it once at each scale.

    denoiser, scheduler: folders that diffusers saved. classifier: a folder in timm's hub layout, or a timm name, whose
    weights timm then fetches. classes: default the classifier's label_names, or numbers. thresholds: default 1/2.
    trial: gives the images to try it on; a bundle that fails is not written.
    Raises BundleError naming the file and the field that is wrong.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out}: expected a folder that is empty or not there yet")
    unet = _denoiser_config(denoiser)
    _check_scheduler(scheduler)
    shape = _shape(unet, denoiser / "config.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        fresh = Path(temporary) / out.name
        (fresh / "denoiser").mkdir(parents=True)
        (fresh / "scheduler").mkdir()
        # Without the folder that the network was once loaded from: it is nobody's business.
        kept = {key: value for key, value in unet.items() if key != "_name_or_path"}
        (fresh / "denoiser" / "config.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(denoiser / WEIGHTS, fresh / "denoiser" / WEIGHTS)
        shutil.copyfile(scheduler / "scheduler_config.json", fresh / "scheduler" / "scheduler_config.json")
        outputs, labels = _copy_classifier(classifier, fresh / "classifier", shape)
        names = tuple(classes or labels or map(str, range(outputs)))
        if len(names) != outputs:
            raise BundleError(f"classes: expected {outputs} names, as {classifier} has outputs, got {len(names)}")
        manifest = Manifest(
            name=name or out.name,
            version=version,
            classes=names,
            input_shape=shape,
            sigmas=tuple(map(float, sigmas)),
            thresholds=tuple(map(float, thresholds)) if thresholds is not None else (0.5,) * len(sigmas),
            final=final,
            files=file_digests(fresh),
            dtype=dtype,
            preprocessing={"color": "gray" if shape[0] == 1 else "rgb", "pixels": "uint8 / 255"},
            provenance={"command": "certify bundles pack"},
        )
        save_manifest(manifest, fresh)
        with _the_users_names(fresh, denoiser, scheduler, classifier):
            load_pipeline(fresh)
            report = None if trial is None else self_test(fresh, *trial(manifest))
        if out.exists():
            out.rmdir()
        fresh.rename(out)
    return manifest, report


def self_test(folder: Path, images: NDArray[np.float32], labels: Sequence[int] | None = None) -> Report:
    """On images (N, C, H, W) in [0, 1].

    Raises BundleError when the denoiser does not denoise at any scale, or would with another prediction type.
    """
    pipeline = load_pipeline(folder, RuntimeOptions(engine="torch"))  # the only one that shows what it denoised
    truth = None if labels is None else np.asarray(labels)
    clean = np.array([pipeline.classify(image) for image in images])
    tests = []
    errors: dict[str, list[float]] = {kind: [] for kind in PREDICTION_TYPES}
    told = pipeline.engine.denoiser.schedule.prediction_type
    for sigma in pipeline.manifest.sigmas:
        noise = np.random.Generator(np.random.Philox(_TEST_SEED)).standard_normal(images.shape, dtype=np.float32)
        noisy = images + np.float32(sigma) * noise
        found = {kind: _denoised(pipeline, noisy, sigma, kind) for kind in PREDICTION_TYPES}
        for kind, (pixels, _) in found.items():
            errors[kind].append(_error(pixels, images))
        said = found[told][1]
        tests.append(
            ScaleTest(
                sigma=sigma,
                agreement=float(np.mean(said == clean)),
                right=None if truth is None else float(np.mean(said == truth)),
                noisy_error=_error(noisy, images),
                denoised_error=errors[told][-1],
            )
        )
    best = min(PREDICTION_TYPES, key=lambda kind: errors[kind][-1])
    times = errors[told][-1] / max(errors[best][-1], 1e-12)
    if times > CLEARLY:
        raise BundleError(
            f"{folder / 'scheduler' / 'scheduler_config.json'}: prediction_type: expected {best!r}, got {told!r}: read "
            f"as {best}, the network brings the images {times:.1f} times nearer to the clean ones at sigma "
            f"{tests[-1].sigma:g}"
        )
    if all(test.denoised_error >= test.noisy_error for test in tests):
        raise BundleError(
            f"{folder / 'denoiser'}: expected a network that denoises images in [-1, 1], got one after which they are "
            "further from the clean ones than before, at every sigma (mean squared error "
            f"{tests[0].denoised_error:.4f} after, {tests[0].noisy_error:.4f} before, at {tests[0].sigma:g})"
        )
    return (None if truth is None else float(np.mean(clean == truth))), tests


def _denoised(
    pipeline: Pipeline, noisy: NDArray[np.float32], sigma: float, kind: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(denoised images, their classes), the network's answer read as `kind`."""
    denoiser, classifier = pipeline.engine.denoiser, pipeline.engine.classifier
    schedule, dtype = denoiser.schedule, getattr(torch, pipeline.engine.dtype)
    told, schedule.prediction_type = schedule.prediction_type, kind
    try:
        pixels, labels = [], []
        with torch.inference_mode():
            for at in range(0, len(noisy), pipeline.micro_batch):
                x = torch.from_numpy(noisy[at : at + pipeline.micro_batch]).to(dtype)
                denoised = denoiser.denoise(x, sigma)
                pixels.append(denoised.float().numpy())
                labels.append(classifier(denoised).argmax(dim=1).numpy())
        return np.concatenate(pixels), np.concatenate(labels)
    finally:
        schedule.prediction_type = told


def _error(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.mean((a.astype(np.float64) - b) ** 2))


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path}: no such file; expected {what}") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: expected JSON, got: {error}") from error
    if not isinstance(raw, dict):
        raise BundleError(f"{path}: expected a JSON object, got {type(raw).__name__}")
    return raw


def _denoiser_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    config = _read(path, "a folder that diffusers' UNet2DModel.save_pretrained wrote")
    if (kind := config.get("_class_name")) != "UNet2DModel":
        raise BundleError(f"{path}: _class_name: expected 'UNet2DModel', got {kind!r}")
    for field in ("class_embed_type", "num_class_embeds"):
        if config.get(field) is not None:
            raise BundleError(f"{path}: {field}: expected none (a network that needs no class), got {config[field]!r}")
    if not (folder / WEIGHTS).is_file():
        there = sorted(each.name for each in folder.iterdir() if each.name != "config.json")
        raise BundleError(
            f"{folder / WEIGHTS}: no such file (there: {', '.join(there) or 'nothing'}); expected safetensors in one "
            "file: UNet2DModel.from_pretrained(...).save_pretrained(DIR, safe_serialization=True)"
        )
    return config


def _shape(config: dict[str, Any], path: Path) -> tuple[int, int, int]:
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


def _check_scheduler(folder: Path) -> None:
    path = folder / "scheduler_config.json"
    config = _read(path, "a folder that a diffusers scheduler's save_pretrained wrote")
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


def _copy_classifier(classifier: str, target: Path, shape: tuple[int, int, int]) -> tuple[int, list[str] | None]:
    """(number of classes, their names if they are in the config)."""
    folder = Path(classifier)
    if not folder.exists():
        return _fetch_classifier(classifier, target, shape)
    path = folder / "config.json"
    config = _read(path, "a folder in timm's hub layout (timm.models.save_for_hf)")
    if not isinstance(config.get("architecture"), str):
        raise BundleError(f"{path}: architecture: expected timm's name of it, got {config.get('architecture')!r}")
    if not (folder / "model.safetensors").is_file():
        raise BundleError(
            f"{folder / 'model.safetensors'}: no such file; expected timm.models.save_for_hf(model, DIR, "
            "safe_serialization=True)"
        )
    settings = config.get("pretrained_cfg", {})
    size, channels = settings.get("input_size"), shape[0]
    if not isinstance(size, list) or len(size) != 3 or size[0] != channels:
        raise BundleError(
            f"{path}: pretrained_cfg.input_size: expected [{channels}, H, W], as the denoiser has channels, "
            f"got {size!r}"
        )
    for field in ("mean", "std"):
        values = settings.get(field)
        if not isinstance(values, list) or len(values) != channels:
            raise BundleError(f"{path}: pretrained_cfg.{field}: expected {channels} values, got {values!r}")
    if not all(value > 0 for value in settings["std"]):
        raise BundleError(f"{path}: pretrained_cfg.std: expected values > 0, got {settings['std']!r}")
    outputs = config.get("num_classes")
    if type(outputs) is not int or outputs < 2:
        raise BundleError(f"{path}: num_classes: expected at least 2, got {outputs!r}")
    target.mkdir()
    for file in ("config.json", "model.safetensors"):
        shutil.copyfile(folder / file, target / file)
    names = config.get("label_names") or settings.get("label_names")
    return outputs, names if isinstance(names, list) and len(names) == outputs else None


def _fetch_classifier(name: str, target: Path, shape: tuple[int, int, int]) -> tuple[int, list[str] | None]:
    import timm
    import timm.models

    if not timm.is_model(name.split(".")[0]):
        raise BundleError(f"classifier: expected a folder in timm's hub layout or a timm name, got {name!r}")
    try:
        net = timm.create_model(name, pretrained=True, in_chans=shape[0])
    except Exception as error:
        raise BundleError(f"classifier: {name}: its weights cannot be had: {error}") from error
    timm.models.save_for_hf(
        net, str(target), model_config={"model_args": {"in_chans": shape[0]}}, safe_serialization=True
    )
    return int(net.num_classes), None


@contextmanager
def _the_users_names(fresh: Path, denoiser: Path, scheduler: Path, classifier: str) -> Iterator[None]:
    """In errors: the user's own folders, not the copy's."""
    try:
        yield
    except BundleError as error:
        text = str(error)
        for part, given in (("denoiser", denoiser), ("scheduler", scheduler), ("classifier", classifier)):
            text = text.replace(str(fresh / part), str(given))
        raise BundleError(text.replace(str(fresh), f"{denoiser}, {classifier}")) from error
