"""`certify bundles pack`: text from the command line to models.pack, and what the self-test found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer

from ...models.datasets import DataSet, open_dataset
from ..answering.images import decode_image
from ..errors import BackendUnavailable, BundleError, DataError, RequestError

__all__ = ("pack_bundle",)


def pack_bundle(
    *,
    denoiser: Path,
    scheduler: Path,
    classifier: str,
    sigmas: str,
    out: Path,
    name: str | None,
    version: str,
    classes: str | None,
    thresholds: str | None,
    final: str,
    dtype: str,
    images: str | None,
    limit: int,
) -> None:
    """Write the bundle, try it, print what was found. Nothing is written when something is wrong."""
    try:
        from ...models import pack
    except ImportError as error:
        raise BackendUnavailable(
            f"packing a bundle needs torch, diffusers and timm (pip install 'certify[embedded]'): {error}"
        ) from error
    data = None if images is None else open_dataset(images).part(limit=limit)
    try:
        manifest, report = pack.pack(
            denoiser=denoiser,
            scheduler=scheduler,
            classifier=classifier,
            sigmas=_numbers("sigmas", sigmas),
            out=out,
            name=name,
            version=version,
            classes=None if classes is None else [each.strip() for each in classes.split(",")],
            thresholds=None if thresholds is None else _numbers("threshold", thresholds),
            final=final,
            dtype=dtype,
            trial=None if data is None else lambda manifest: _decoded(data, manifest.input_shape, manifest.classes),
        )
    except BundleError as error:
        raise BundleError(str(error)) from error
    shape = "x".join(map(str, manifest.input_shape))
    typer.echo(f"{out}: {manifest.name}, {len(manifest.classes)} classes, input {shape}, {manifest.digest}")
    if data is None or report is None:
        typer.echo("not tried on images: shapes and scales fit; --images DATA shows whether it denoises")
        return
    accuracy, tests = report
    if accuracy is not None:
        typer.echo(f"clean accuracy on {len(data)} images: {accuracy:.3f}")
    typer.echo("| sigma | agrees with the clean class | right | noisy error | denoised error |\n" + "| --- " * 5 + "|")
    for test in tests:
        right = "" if test.right is None else f"{test.right:.3f}"
        typer.echo(
            f"| {test.sigma:g} | {test.agreement:.3f} | {right} | {test.noisy_error:.4f} | {test.denoised_error:.4f} |"
        )
    typer.echo("next: certify dataset --votes on a validation set, certify tune, and its thresholds into the bundle")


def _decoded(
    data: DataSet, shape: tuple[int, int, int], classes: tuple[str, ...]
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], list[int] | None]:
    """Images as the service decodes them, and labels if the bundle knows the classes' names."""
    tensors = []
    for position, idx in enumerate(data.idx):
        try:
            picture = decode_image(data.read(position), shape, resize=False, max_pixels=2**24)
        except RequestError as error:
            raise DataError(f"{data.name}, image {idx}: {error.detail}") from error
        tensors.append(picture.tensor)
    known = {data.classes[label] for label in data.labels} <= set(classes)
    return np.stack(tensors), list(data.labels_in(classes)) if known else None


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        raise DataError(f"{name}: expected numbers with commas between, got {text!r}") from None
