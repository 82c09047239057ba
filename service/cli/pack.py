"""`certify bundles`: list the shipped ones, pack one, export one. models does the work; here is what is said of it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ...models.bundle import Manifest, find_bundle, list_bundles, load_manifest
from ...models.data.class_lists import read_classes
from ...models.data.pictures import MAX_PIXELS
from ...models.datasets import DataSet, open_dataset
from ...models.files import read_text
from ...models.noises import NOISES
from ..answering.images import decode_image
from ..errors import BackendUnavailable, DataError, RequestError
from ..research.dataset_run import OF_ONE_IMAGE
from ..settings import load_settings
from .classifier_options import told_of, with_classifier_options
from .convert import convert_app
from .options import (
    DATA_HELP,
    MARKUP,
    PartOption,
    ResizeOption,
    errors_as_text,
    numbers,
    parse_final,
    parse_noise,
    parse_resize,
)

if TYPE_CHECKING:
    from ...models.pack_classifiers import Given, RemoteClassifier
    from ...models.pack_trial import Report, Trial

__all__ = ("bundles", "bundles_app", "export", "pack", "photo", "upgrade")

_CLASSES_HELP = (
    "Names with commas between; @FILE with a name a line, or JSON: a list, or a config's id2label; or imagenet "
    "[the classifier's own, or 0,1,...]."
)
_CLASSIFIER_HELP = (
    "An .onnx file; a folder in timm's hub layout or of transformers'; weights (.safetensors, .pth, .bin) with "
    "--architecture; a timm name, timm/NAME or hf-hub:OWNER/NAME, to be fetched. Or one of each scale, as 0.25=PATH, "
    "several times."
)

_URL_HELP = (
    "Instead of --classifier, one that is asked over the network: http://HOST/v2/models/NAME[/versions/V], "
    "grpc://HOST:PORT/NAME, or plain JSON. CERTIFY_REMOTE_... say how."
)
_REMOTE_HELP = (
    "With --classifier-url, what its metadata does not say: "
    '{"input": {"layout": "NHWC", "mean": [0.5], "std": [0.5]}, "output": {"kind": "labels"}, "max_batch": 16}.'
)

bundles_app = typer.Typer(
    invoke_without_command=True, add_completion=False, rich_markup_mode=MARKUP, pretty_exceptions_enable=False
)

bundles_app.add_typer(convert_app, name="convert")


@bundles_app.callback()
@errors_as_text()
def bundles(context: typer.Context) -> None:
    """List the shipped bundles: name, version, classes, input shape, sigmas, digest. Or make one, or export one."""
    if context.invoked_subcommand is not None:
        return
    for name in list_bundles():
        manifest = load_manifest(find_bundle(name))
        sigmas = ",".join(format(sigma, "g") for sigma in manifest.sigmas)
        typer.echo(
            f"{name}  version {manifest.version}  {len(manifest.classes)} classes  input {_shape(manifest)}  "
            f"sigmas {sigmas}  {manifest.digest}"
        )


_Denoiser = Annotated[
    Path | None,
    typer.Option(help="Folder of a diffusers UNet2DModel, or of a pipeline with one [none: no scale is denoised]."),
]
_Scheduler = Annotated[
    Path | None, typer.Option(help="Folder of its diffusers scheduler [the pipeline's, or the one beside it].")
]
_Undenoised = Annotated[str | None, typer.Option(help="Scales whose classifier sees the noise itself: 0.12.")]
_Input = Annotated[str | None, typer.Option(help="C,H,W of the images [the denoiser's, or the classifier's].")]
_MicroBatch = Annotated[
    int | None, typer.Option(min=1, help="Draws that a CPU computes together, in whole chunks [what fits memory].")
]


@bundles_app.command()
@with_classifier_options
@errors_as_text()
def pack(
    sigmas: Annotated[str, typer.Option(help="Scales, in units of [0, 1] pixels: 0.25,0.5,1.0.")],
    out: Annotated[Path, typer.Option(help="The bundle's folder.")],
    classifier: Annotated[list[str] | None, typer.Option(help=_CLASSIFIER_HELP, metavar="[SIGMA=]PATH|NAME")] = None,
    classifier_url: Annotated[str | None, typer.Option(help=_URL_HELP)] = None,
    remote: Annotated[str | None, typer.Option(help=_REMOTE_HELP, metavar="JSON|@FILE")] = None,
    denoiser: _Denoiser = None,
    scheduler: _Scheduler = None,
    no_denoiser_at: _Undenoised = None,
    input: _Input = None,
    name: Annotated[str | None, typer.Option(help="Of the bundle [the folder's].")] = None,
    version: Annotated[str, typer.Option(help="Of the bundle.")] = "1",
    classes: Annotated[str | None, typer.Option(help=_CLASSES_HELP)] = None,
    threshold: Annotated[str | None, typer.Option(help="One per sigma: 0.5,0.5,0.9 [0.5 each].")] = None,
    final: Annotated[str, typer.Option(help="plurality or threshold.")] = "plurality",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16, in which it runs.")] = "float32",
    noise: Annotated[str | None, typer.Option(help=f"{', '.join(NOISES)}: one, or one per sigma [gaussian].")] = None,
    chunk: Annotated[int | None, typer.Option(min=1, help="Draws whose noise is made together [32, or fewer].")] = None,
    micro_batch: _MicroBatch = None,
    images: Annotated[str | None, typer.Option(help=f"Try it on: {DATA_HELP}")] = None,
    part: PartOption = None,
    resize: ResizeOption = None,
    limit: Annotated[int, typer.Option(help="At most so many images.")] = 64,
    **classifier_fields: Any,
) -> None:
    """Make a bundle of any classifier and a diffusers denoiser, if any, check it, and try it on images.

    Nothing is written when something is wrong.
    """
    packing, fit, tried = _packing(), parse_resize(resize), list[int]()
    data = None if images is None else open_dataset(images, part=part).part(limit=limit)
    manifest, report = packing.pack(
        classifier=_classifier(packing, classifier, classifier_url, remote),
        told=packing.Told(**told_of(classifier_fields)),
        out=out,
        denoiser=denoiser,
        scheduler=scheduler,
        **_scales(sigmas, threshold, noise, no_denoiser_at, input),
        name=name,
        version=version,
        classes=None if classes is None else read_classes(classes),
        final=parse_final(final) or "plurality",
        dtype=dtype,
        chunk=chunk,
        micro_batch=micro_batch,
        trial=None if data is None else partial(_trial, data, fit, tried),
        say=typer.echo,
    )
    _say_what_came(packing, out, manifest, None if report is None else _report(report, sum(tried)))


def _packing() -> ModuleType:
    try:
        from ...models import pack as packing
    except ImportError as error:
        raise BackendUnavailable(
            f"packing a bundle needs torch and openvino (pip install 'certify[cpu,torch]'): {error}"
        ) from error
    return packing


def _scales(
    sigmas: str, threshold: str | None, noise: str | None, undenoised: str | None, shape: str | None
) -> dict[str, Any]:
    """Arguments of models.pack. Raises DataError."""
    scales = numbers("sigmas", sigmas)
    return {
        "sigmas": scales,
        "thresholds": None if threshold is None else numbers("threshold", threshold),
        "noise": parse_noise(noise, len(scales)),
        "undenoised": () if undenoised is None else numbers("no-denoiser-at", undenoised),
        "input_shape": None if shape is None else [int(n) if n.is_integer() else n for n in numbers("input", shape)],
    }


def _trial(data: DataSet, resize: str | None, tried: list[int], manifest: Manifest) -> Trial:
    """What to try it on; `tried` hears how many they are."""
    tensors, labels = _decoded(data, manifest, resize)
    tried.append(len(tensors))
    return tensors, labels


def _say_what_came(packing: ModuleType, out: Path, manifest: Manifest, report: str | None) -> None:
    typer.echo(f"{out}: {manifest.name}, {len(manifest.classes)} classes, input {_shape(manifest)}, {manifest.digest}")
    untried = "not tried on images: shapes and scales fit; --images DATA shows whether "
    untried += "it denoises" if manifest.denoised_sigmas else "the classifier knows what it sees through noise"
    typer.echo(report or untried)
    typer.echo(f"cost        {packing.cost_of(out)}\nserve       certify serve --bundle {out}")


def _classifier(packing: ModuleType, local: list[str] | None, url: str | None, given: str | None) -> Given:
    """Raises DataError."""
    if bool(local) == (url is not None):
        raise DataError(f"expected --classifier or --classifier-url, got {'neither' if url is None else 'both'}")
    if local and given is not None:
        raise DataError("remote: expected it with --classifier-url, got it with --classifier")
    if local:
        return _by_sigma(local)
    remote: RemoteClassifier = packing.RemoteClassifier(
        url=url, given=_json_object("remote", given or "{}"), limits=load_settings().remote
    )
    return remote


def _json_object(name: str, text: str) -> dict[str, Any]:
    """Of JSON, or of the file that @FILE names. Raises DataError."""
    try:
        value = json.loads(read_text(Path(text[1:])) if text.startswith("@") else text)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{name}: expected JSON or @FILE: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{name}: expected a JSON object, got {text[:100]!r}")
    return value


@bundles_app.command()
@errors_as_text()
def photo(
    out: Annotated[Path, typer.Option(help="The bundle's folder.")] = Path("photo"),
    classifier: Annotated[
        str | None, typer.Option(help="Your own: a folder in timm's hub layout, or a timm name [EfficientNet-Lite0].")
    ] = None,
    classes: Annotated[str | None, typer.Option(help=_CLASSES_HELP)] = None,
) -> None:
    """Make a bundle for photographs of 224 px: a classifier behind the denoiser that ships (docs/photo.md)."""
    from ...models.photo import pack_photo

    names = None if classes is None else read_classes(classes)
    try:
        manifest = pack_photo(out, classifier=classifier, classes=names)
    except ImportError as error:
        raise BackendUnavailable(
            f"packing a bundle needs torch and openvino (pip install 'certify[photo]'): {error}"
        ) from error
    typer.echo(f"{out}: {manifest.name}, {len(manifest.classes)} classes, input {_shape(manifest)}, {manifest.digest}")


@bundles_app.command()
@errors_as_text()
def upgrade(bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")]) -> None:
    """Write a bundle anew in its place, with a graph of its networks, which a CPU runs without torch."""
    try:
        from ...models.upgrade import upgrade as write
    except ImportError as error:
        raise BackendUnavailable(
            f"upgrading a bundle needs torch and openvino (pip install 'certify[cpu,torch]'): {error}"
        ) from error
    manifest = write(bundle)
    typer.echo(f"{bundle}: {manifest.name}, {manifest.digest}")


@bundles_app.command()
@errors_as_text()
def export(
    bundle: Annotated[str, typer.Argument(help="A shipped bundle's name, or a folder.")],
    out: Annotated[Path, typer.Option(help="The model repository to write; an earlier export there is replaced.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    micro_batch: Annotated[int | None, typer.Option(help="Samples computed together [the device's].")] = None,
    instances: Annotated[int | None, typer.Option(help="Processes [one a core on a CPU, one on a GPU].")] = None,
) -> None:
    """Write a bundle as a Triton model repository, and print the command that serves it."""
    from ...models.export import export as write

    try:
        write(find_bundle(bundle), out, device=device, engine=engine, micro_batch=micro_batch, instances=instances)
    except (FileExistsError, ValueError) as error:
        raise DataError(str(error)) from error
    typer.echo(f"tritonserver --model-repository {out}")


def _by_sigma(classifiers: list[str]) -> str | dict[float, str]:
    """One text, or SIGMA=PATH of each scale. Raises DataError."""
    by_sigma = {}
    for text in classifiers:
        number, equals, source = text.partition("=")
        try:
            sigma = float(number) if equals else None
        except ValueError:  # a path with an equals sign
            sigma = None
        if sigma is None and len(classifiers) == 1:
            return text
        if sigma is None or sigma in by_sigma:
            raise DataError(f"classifier: expected one, or SIGMA=PATH of each sigma, got {', '.join(classifiers)}")
        by_sigma[sigma] = source
    return by_sigma


def _shape(manifest: Manifest) -> str:
    return "x".join(map(str, manifest.input_shape))


def _report(report: Report, images: int) -> str:
    """What the self-test on so many images found, as lines and a table."""
    accuracy, tests = report
    lines = [] if accuracy is None else [f"clean accuracy on {images} images: {accuracy:.3f}"]
    lines += ["| sigma | agrees with the clean class | right | noisy error | denoised error |", "| --- " * 5 + "|"]
    for test in tests:
        right = "" if test.right is None else f"{test.right:.3f}"
        errors = f"{test.noisy_error:.4f} | " + ("" if test.denoised_error is None else f"{test.denoised_error:.4f}")
        lines.append(f"| {test.sigma:g} | {test.agreement:.3f} | {right} | {errors} |")
    lines.append("next: certify dataset --votes on a validation set, certify tune, and its thresholds into the bundle")
    return "\n".join(lines)


def _decoded(data: DataSet, manifest: Manifest, resize: str | None) -> tuple[NDArray[np.float32], list[int] | None]:
    """Images as the service decodes them, but for those that cannot be; and labels if the bundle knows the classes."""
    tensors, used = [], []
    for position, idx in enumerate(data.idx):
        try:
            image, fit = data.read(position), {"resize": resize is not None, "crop": resize == "center-crop"}
            tensors.append(decode_image(image, manifest.input_shape, max_pixels=MAX_PIXELS, **fit).tensor)
            used.append(position)
        except (DataError, RequestError) as error:
            if isinstance(error, RequestError) and error.code not in OF_ONE_IMAGE:
                raise DataError(f"{data.name}, image {idx}: {error.detail}") from error
            typer.echo(f"not tried on image {idx}: {error}", err=True)
    if not tensors:
        raise DataError(f"{data.name}: expected images that can be used, and there is none")
    try:
        labels = data.labels_in(manifest.classes)
    except DataError as error:
        typer.echo(f"tried without labels: {error}", err=True)
        return np.stack(tensors), None
    return np.stack(tensors), [labels[position] for position in used]
