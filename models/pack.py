"""Make a bundle of a diffusers UNet2DModel folder and any classifier: `certify bundles pack`.

Everything that can be wrong is looked for before anything is written, and named by file and field. With images, the
networks are tried: does the denoiser denoise, and does the classifier still know what it sees?
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .bundle import Final, Manifest, file_digests, save_manifest
from .classifiers import Taken, Told, take
from .convert import with_graph
from .errors import BundleError
from .pack_report import cost_of, understood
from .pack_sources import check_scheduler, copy_denoiser, image_shape, read_denoiser
from .pack_trial import Report, ScaleTest, Trial, self_test
from .runtime import load_pipeline
from .write import preprocessing, whole_folder

__all__ = ("ScaleTest", "Told", "cost_of", "pack", "self_test")


def pack(
    *,
    denoiser: Path,
    scheduler: Path,
    classifier: str,
    told: Told | None = None,
    sigmas: Sequence[float],
    out: Path,
    name: str | None = None,
    version: str = "1",
    classes: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
    final: Final = "plurality",
    dtype: str = "float32",
    trial: Callable[[Manifest], Trial] | None = None,
    say: Callable[[str], object] | None = None,
) -> tuple[Manifest, Report | None]:
    """Write the bundle `out`, whole or not at all, and try it once at each scale.

    denoiser, scheduler: folders that diffusers saved. classifier: what models.classifiers takes; told: what the
    user says of it. classes: default the classifier's own names, or numbers. thresholds: default 1/2.
    trial: gives the images to try it on; a bundle that fails is not written. say: hears what was understood, by lines.
    Raises BundleError naming the file and the field that is wrong.
    """
    unet = read_denoiser(denoiser)
    check_scheduler(scheduler)
    shape = image_shape(unet, denoiser / "config.json")
    with whole_folder(out) as fresh:
        copy_denoiser(unet, denoiser, fresh / "denoiser")
        (fresh / "scheduler").mkdir()
        shutil.copyfile(scheduler / "scheduler_config.json", fresh / "scheduler" / "scheduler_config.json")
        taken = take(classifier, fresh / "classifier", shape, told or Told(), None if classes is None else len(classes))
        names = _names(taken, classes, classifier)
        if say is not None:
            for line in understood(fresh, taken, names, classes is not None):
                say(line)
        bare = Manifest(
            name=name or out.name,
            version=version,
            classes=names,
            input_shape=shape,
            sigmas=tuple(map(float, sigmas)),
            thresholds=tuple(map(float, thresholds)) if thresholds is not None else (0.5,) * len(sigmas),
            final=final,
            files=file_digests(fresh),
            dtype=dtype,
            preprocessing=preprocessing(shape[0]),
            provenance={"command": "certify bundles pack", "sources": {"classifier": dict(taken.source)}},
        )
        with _the_users_names(fresh, denoiser, scheduler, classifier):
            manifest = _with_graph(bare, fresh)
            save_manifest(manifest, fresh)
            load_pipeline(fresh)
            report = None if trial is None else self_test(fresh, *trial(manifest))
    return manifest, report


def _names(taken: Taken, told: Sequence[str] | None, classifier: str) -> tuple[str, ...]:
    names = tuple(told or taken.labels or map(str, range(taken.outputs)))
    if len(names) != taken.outputs:
        raise BundleError(f"classes: expected {taken.outputs} names, as {classifier} has outputs, got {len(names)}")
    return names


def _with_graph(bare: Manifest, folder: Path) -> Manifest:
    try:
        return with_graph(bare, folder)
    except (BundleError, ImportError):
        raise
    except Exception as error:
        # Whatever diffusers, timm, torch or OpenVINO raise here (a key, a shape, a value): no such networks.
        raise BundleError(f"{folder}: no graph can be made of the networks: {error}") from error


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
