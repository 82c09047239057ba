"""Make a bundle of a diffusers UNet2DModel folder and a timm classifier: `certify bundles pack`.

Everything that can be wrong is looked for before anything is written, and named by file and field. With images, the
networks are tried: does the denoiser denoise, and does the classifier still know what it sees?
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .bundle import Final, Manifest, file_digests, save_manifest
from .convert import with_graph
from .engines import Elsewhere
from .errors import BundleError
from .pack_sources import check_scheduler, copy_classifier, copy_denoiser, image_shape, read_denoiser
from .pack_trial import Report, ScaleTest, Trial, self_test
from .remote.limits import Limits
from .remote.packing import declare
from .runtime import load_pipeline, options_for
from .write import preprocessing, whole_folder

__all__ = ("RemoteClassifier", "ScaleTest", "pack", "self_test")


@dataclass(frozen=True, kw_only=True)
class RemoteClassifier:
    """A classifier that is asked over the network."""

    url: str  # models.remote.declared.parse_url
    given: Mapping[str, Any] = field(default_factory=dict)  # models.remote.packing.declare
    limits: Limits = field(default_factory=Limits)


def pack(
    *,
    denoiser: Path,
    scheduler: Path,
    classifier: str | RemoteClassifier,
    sigmas: Sequence[float],
    out: Path,
    name: str | None = None,
    version: str = "1",
    classes: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
    final: Final = "plurality",
    dtype: str = "float32",
    trial: Callable[[Manifest], Trial] | None = None,
) -> tuple[Manifest, Report | None]:
    """Write the bundle `out`, whole or not at all, and try it once at each scale.

    denoiser, scheduler: folders that diffusers saved. classifier: a folder in timm's hub layout, or a timm name, whose
    weights timm then fetches; or one over the network, which is then asked. classes: default the classifier's
    label_names, or numbers. thresholds: default 1/2. trial: gives the images to try it on; a bundle that fails is not
    written. Raises BundleError naming the file and the field that is wrong, RemoteError if a remote classifier fails.
    """
    unet = read_denoiser(denoiser)
    check_scheduler(scheduler)
    shape = image_shape(unet, denoiser / "config.json")
    with whole_folder(out) as fresh:
        copy_denoiser(unet, denoiser, fresh / "denoiser")
        (fresh / "scheduler").mkdir()
        shutil.copyfile(scheduler / "scheduler_config.json", fresh / "scheduler" / "scheduler_config.json")
        remote, names = _classifier(classifier, fresh / "classifier", shape, classes)
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
            remote=remote,
            preprocessing=preprocessing(shape[0]),
            provenance={"command": "certify bundles pack"},
        )
        limits = classifier.limits if isinstance(classifier, RemoteClassifier) else None
        called = classifier.url if isinstance(classifier, RemoteClassifier) else classifier
        with _the_users_names(fresh, denoiser, scheduler, called):
            manifest = _with_graph(bare, fresh)
            save_manifest(manifest, fresh)
            engine = load_pipeline(fresh, options_for(bundle=fresh, remote=limits)).engine
            if isinstance(engine, Elsewhere):
                engine.close()
            report = None if trial is None else self_test(fresh, *trial(manifest), remote=limits)
    return manifest, report


def _classifier(
    classifier: str | RemoteClassifier, target: Path, shape: tuple[int, int, int], classes: Sequence[str] | None
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """(the manifest's `remote`, the classes' names); a local classifier's files are in `target` then."""
    if isinstance(classifier, RemoteClassifier):
        remote, names = declare(classifier.url, classifier.given, shape, classes, classifier.limits)
        return remote.as_json(), names
    outputs, labels = copy_classifier(classifier, target, shape)
    names = tuple(classes or labels or map(str, range(outputs)))
    if len(names) != outputs:
        raise BundleError(f"classes: expected {outputs} names, as {classifier} has outputs, got {len(names)}")
    return {}, names


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
