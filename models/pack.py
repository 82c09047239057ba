"""Make a bundle of any classifier and a diffusers UNet2DModel before it, or none: `certify bundles pack`.

Everything that can be wrong is looked for before anything is written, and named by file and field. With images, the
networks are tried: does the denoiser denoise, and does the classifier still know what it sees?
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from .bundle import Final, Manifest, file_digests, save_manifest
from .classifiers import Told
from .convert import with_graph
from .cost import LARGEST, draw_cost, fitting_micro_batch
from .engines import Elsewhere
from .errors import BundleError
from .graph import read_graph
from .noises import NoiseKind
from .pack_classifiers import Given, RemoteClassifier, listed, put
from .pack_folders import denoiser_folder, scheduler_folder
from .pack_report import cost_of, lines_of
from .pack_sources import check_scheduler, copy_denoiser, image_shape, read_denoiser, source_of
from .pack_trial import Report, ScaleTest, Trial, self_test
from .preprocessing import LARGEST_SIDE
from .runtime import load_pipeline, options_for
from .write import preprocessing, whole_folder

__all__ = ("RemoteClassifier", "ScaleTest", "Told", "cost_of", "pack", "self_test")


def pack(
    *,
    classifier: Given,
    told: Told | None = None,
    sigmas: Sequence[float],
    out: Path,
    denoiser: Path | None = None,
    scheduler: Path | None = None,
    undenoised: Sequence[float] = (),
    input_shape: Sequence[float] | None = None,
    name: str | None = None,
    version: str = "1",
    classes: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
    final: Final = "plurality",
    dtype: str = "float32",
    noise: Sequence[NoiseKind] = (),
    chunk: int | None = None,
    micro_batch: int | None = None,
    trial: Callable[[Manifest], Trial] | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> tuple[Manifest, Report | None]:
    """Write the bundle `out`, whole or not at all, and try it once at each scale.

    classifier: what models.classifiers takes, one of each sigma, or one over the network. told: what is said of local
    ones. denoiser, scheduler: folders of diffusers; None: no scale is denoised. undenoised: sigmas whose net sees
    the noise. input_shape: (C, H, W) [the denoiser's, or the finest classifier's]. thresholds: [1/2]. noise: of each
    sigma; (): Gaussian, which certifies L2, any other L1. chunk, micro_batch: [models.cost]. trial: images to try it
    on. say: hears what was understood. Raises BundleError naming file and field, or RemoteError.
    """
    scales = tuple(map(float, sigmas))
    denoised = _denoised(scales, denoiser, undenoised)
    place = _located(denoiser, scheduler)
    origin = {} if place is None or (of := source_of(place[0])) is None else {"denoiser": of}
    with whole_folder(out) as fresh:
        shape = None if place is None else _copy_denoiser(*place, fresh)
        found = put(classifier, fresh, scales, _agreed(shape, input_shape), told or Told(), classes)
        for line in lines_of(fresh, found, classes is not None):
            say(line)
        bare = Manifest(
            name=name or out.name,
            version=version,
            classes=found.classes,
            input_shape=found.shape,
            sigmas=scales,
            thresholds=tuple(map(float, thresholds)) if thresholds is not None else (0.5,) * len(scales),
            final=final,
            files=file_digests(fresh),
            dtype=dtype,
            noise=tuple(noise),
            norm="l2" if set(noise) <= {"gaussian"} else "l1",
            denoised=denoised,
            remote=found.remote,
            preprocessing=preprocessing(found.shape[0]),
            provenance={"command": "certify bundles pack", "sources": {**origin, "classifier": found.source}},
        )
        parts = {} if place is None else {"denoiser": str(place[0]), "scheduler": str(place[1])}
        with _the_users_names(fresh, {**found.users, **parts}):
            manifest = _sized(_with_graph(bare, fresh), fresh, chunk, micro_batch)
            return manifest, _tried(manifest, fresh, classifier, trial)


def _tried(
    manifest: Manifest, folder: Path, classifier: Given, trial: Callable[[Manifest], Trial] | None
) -> Report | None:
    """Write the manifest, load the bundle as a service would, and try it on images."""
    limits = classifier.limits if isinstance(classifier, RemoteClassifier) else None
    save_manifest(manifest, folder)
    engine = load_pipeline(folder, options_for(bundle=folder, remote=limits)).engine
    if isinstance(engine, Elsewhere):
        engine.close()
    return None if trial is None else self_test(folder, *trial(manifest), remote=limits)


def _denoised(sigmas: tuple[float, ...], denoiser: Path | None, undenoised: Sequence[float]) -> tuple[bool, ...]:
    """The manifest's field. Raises BundleError where the denoiser and the scales do not go together."""
    if unknown := sorted(set(undenoised) - set(sigmas)):
        raise BundleError(f"no-denoiser-at: expected some of the sigmas {listed(sigmas)}, got {listed(unknown)}")
    if denoiser is None:
        return (False,) * len(sigmas)
    if set(undenoised) == set(sigmas):
        raise BundleError("denoiser: expected none, since no-denoiser-at has every sigma")
    return tuple(sigma not in undenoised for sigma in sigmas) if undenoised else ()


def _located(denoiser: Path | None, scheduler: Path | None) -> tuple[Path, Path] | None:
    """Folders of the network and of its scheduler."""
    if denoiser is None:
        if scheduler is not None:
            raise BundleError(f"scheduler: expected none without a denoiser, got {scheduler}")
        return None
    network = denoiser_folder(denoiser)
    read_denoiser(network)  # what is wrong with it comes first
    return network, scheduler_folder(scheduler, denoiser, network)


def _copy_denoiser(denoiser: Path, scheduler: Path, fresh: Path) -> tuple[int, int, int]:
    """(C, H, W) of its images."""
    unet = read_denoiser(denoiser)
    check_scheduler(scheduler)
    shape = image_shape(unet, denoiser / "config.json")
    copy_denoiser(unet, denoiser, fresh / "denoiser")
    (fresh / "scheduler").mkdir()
    shutil.copyfile(scheduler / "scheduler_config.json", fresh / "scheduler" / "scheduler_config.json")
    return shape


def _agreed(denoisers: tuple[int, int, int] | None, given: Sequence[float] | None) -> tuple[int, int, int] | None:
    if given is None:
        return denoisers
    sides = [side for side in given if isinstance(side, int) and 0 < side <= LARGEST_SIDE]
    if len(given) != 3 or len(sides) != 3 or sides[0] not in (1, 3):
        raise BundleError(
            f"input: expected C,H,W with a C of 1 or 3, and sides of at most {LARGEST_SIDE}, got {listed(given)}"
        )
    channels, height, width = sides
    if denoisers not in (None, (channels, height, width)):
        raise BundleError(f"input: expected {listed(denoisers)}, as the denoiser takes, got {listed(given)}")
    return channels, height, width


def _with_graph(bare: Manifest, folder: Path) -> Manifest:
    try:
        return with_graph(bare, folder)
    except (BundleError, ImportError):
        raise
    except Exception as error:
        # Whatever diffusers, timm, torch or OpenVINO raise here (a key, a shape, a value): no such networks.
        said = " ".join(str(error).split())
        raise BundleError(f"{folder}: no graph can be made of the networks: {said}") from error


def _sized(manifest: Manifest, folder: Path, chunk: int | None, micro_batch: int | None) -> Manifest:
    """With what a draw costs among its figures, and the chunk and micro-batch that were asked for, or fit that."""
    cost = draw_cost(read_graph(folder, manifest), manifest)
    proposed = fitting_micro_batch(cost)
    together = micro_batch or proposed
    grain = chunk or math.gcd(manifest.chunk, together)  # noise is made in whole chunks: no larger than what takes it
    if micro_batch is None:
        together = 0 if proposed == LARGEST else -(-proposed // grain) * grain
    figures = {"mflop_per_sample": cost.flop / 1e6, "megabytes_per_sample": cost.bytes / 1e6}
    return replace(manifest, chunk=grain, micro_batch=together, figures={**manifest.figures, **figures})


@contextmanager
def _the_users_names(fresh: Path, users: Mapping[str, str]) -> Iterator[None]:
    """In errors: the user's own folders, not the copy's. users: what was given, by its folder in the bundle."""
    try:
        yield
    except BundleError as error:
        text = str(error)
        for part, given in users.items():
            text = text.replace(str(fresh / part), given)
        raise BundleError(text.replace(str(fresh), ", ".join(users.values()))) from error
