"""Writing bundles: each folder whole or not at all, networks as diffusers and timm read them.

Nothing here imports torch by itself, and nothing of training: code that has networks can write them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .bundle import MANIFEST, Final, Manifest, file_digests, save_manifest
from .errors import BundleError
from .files import unwritable
from .preprocessing import Record

if TYPE_CHECKING:
    from diffusers import DDPMScheduler

    from .classifier import Classifier
    from .denoiser import Denoiser

__all__ = (
    "Networks",
    "check_place",
    "preprocessing",
    "replaces_bundle",
    "save_classifier",
    "whole_folder",
    "write_bundle",
)


class Networks(NamedTuple):
    """What a bundle holds."""

    denoiser: Denoiser
    classifier: Classifier

    def ready(self) -> Networks:
        """On the CPU, in evaluation mode, frozen."""
        for network in self:
            network.cpu().eval().requires_grad_(False)
        return self

    def stored_in(self, dtype: str) -> Networks:
        """Their weights rounded to the dtype of this name."""
        import torch

        for network in self:
            network.to(getattr(torch, dtype))
        return self


@contextmanager
def whole_folder(out: Path, *, replaces: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """A folder to fill, which becomes `out` when the block ends, and vanishes when it ends with an error.

    Until then it stands beside `out`, with a dot before its name: a process that is killed outright can leave that one
    behind, but never half of `out`. replaces: whether an `out` with something in it may give way; None = never.
    Raises BundleError where it may not, before the block and after it.
    """
    place = out.resolve()  # "." has no name of its own
    check_place(out, replaces)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as temporary:
        fresh, before = Path(temporary) / "new" / place.name, Path(temporary) / "before"
        fresh.mkdir(parents=True)
        yield fresh
        check_place(out, replaces)
        if place.exists():
            os.rename(place, before)
        try:
            os.rename(fresh, place)
        except OSError:
            if before.exists():
                os.rename(before, place)
            raise


def check_place(out: Path, replaces: Callable[[Path], bool] | None = None) -> None:
    """What whole_folder asks of `out`, for those who would rather know before hours of work. Raises BundleError."""
    if (folder := unwritable(out)) is not None:
        raise BundleError(f"{out}: expected a place where a folder can be made, and {folder} is none")
    if not out.exists() or (out.is_dir() and (not any(out.iterdir()) or (replaces is not None and replaces(out)))):
        return
    earlier = "" if replaces is None else ", or what an earlier run wrote"
    raise BundleError(f"{out}: expected a folder that is empty or not there yet{earlier}, got other files")


def replaces_bundle(folder: Path) -> bool:
    """For whole_folder: an earlier bundle may give way."""
    return (folder / MANIFEST).is_file()


def save_classifier(classifier: Classifier, folder: Path, model_args: Mapping[str, Any] | None = None) -> None:
    """timm's hub layout, with the record: config.json has every argument that building it again needs.

    model_args: what create_model() got beside the number of classes and channels.
    """
    import timm.models

    shape = classifier.input_size
    arguments = {**(model_args or {}), "in_chans": shape[0]}
    timm.models.save_for_hf(
        classifier.net,
        str(folder),
        model_config={"num_classes": classifier.net.num_classes, "model_args": arguments},
        safe_serialization=True,
    )
    Record(library="timm", preprocessing=classifier.preprocessing).write(folder)


def preprocessing(channels: int) -> dict[str, str]:
    """How a stored image of 1 (gray) or 3 (RGB) channels becomes the certified tensor, for the manifest."""
    return {"color": "gray" if channels == 1 else "rgb", "pixels": "uint8 / 255"}


def write_bundle(
    networks: Networks,
    scheduler: DDPMScheduler,
    out: Path,
    *,
    name: str,
    version: str,
    classes: tuple[str, ...],
    input_shape: tuple[int, int, int],
    sigmas: tuple[float, ...],
    final: Final,
    dtype: str,
    provenance: Mapping[str, Any],
    model_args: Mapping[str, Any] | None = None,
) -> Manifest:
    """A bundle of freshly trained networks with thresholds of 1/2, still to be chosen; an earlier one is replaced.

    Weights are stored as they are, whatever `dtype` they will run in. model_args: see save_classifier. The other
    arguments are the manifest's fields. Raises BundleError if something else than a bundle stands at `out`.
    """
    from .convert import with_graph

    with whole_folder(out, replaces=replaces_bundle) as folder:
        networks.denoiser.unet.save_pretrained(str(folder / "denoiser"), safe_serialization=True)
        scheduler.save_pretrained(str(folder / "scheduler"))
        save_classifier(networks.classifier, folder / "classifier", model_args)
        bare = Manifest(
            name=name,
            version=version,
            classes=classes,
            input_shape=input_shape,
            sigmas=sigmas,
            thresholds=(0.5,) * len(sigmas),
            final=final,
            dtype=dtype,
            files=file_digests(folder),
            preprocessing=preprocessing(input_shape[0]),
            provenance=provenance,
        )
        manifest = with_graph(bare, folder)
        save_manifest(manifest, folder)
    return manifest
