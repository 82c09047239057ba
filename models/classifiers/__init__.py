"""Any classifier, as `certify bundles pack` takes it: read once, stored in a form that loads without running its code.

    timm            a hub folder; weights with --architecture; a name
    transformers    a folder of AutoModelForImageClassification
    torchvision     weights with --architecture torchvision:NAME
    onnx            an .onnx file

Each module gives a `Taken`. What stands in the bundle's classifier/ afterwards models.classifier reads.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

from ..bundle import MANIFEST
from ..classifier import ONNX, Classifier
from ..data.class_lists import names_in_config
from ..errors import BundleError
from ..files import read_object
from ..preprocessing import CLASSIFIER, Record, read_record
from . import onnx, probe, weights
from .told import Shape, Taken, Told, digests

__all__ = ("Taken", "Told", "take")

LONGEST = 400  # characters of a library's own words


def take(classifier: str, target: Path, shape: Shape | None, told: Told, classes: int | None = None) -> Taken:
    """Write the folder `target` of a bundle from what the user gave, and try it.

    shape: (C, H, W) of the pictures; None = the classifier's own input. classes: how many names were given.
    Raises BundleError that names file and field, what was expected, and what to do.
    """
    taken = _read(Path(classifier), classifier, target, shape, told, classes)
    record = Record(library=taken.library, preprocessing=taken.preprocessing, output=taken.output)
    record.write(target)
    if taken.library != "onnx":  # that one OpenVINO tries, in a process of its own
        network = _loaded(target, classifier, taken)
        outputs = probe.outputs_of(network, shape or taken.preprocessing.input_size, classifier)
        taken = dataclasses.replace(taken, outputs=outputs)
    said = {name: value for name, value in told.given.items()}
    return dataclasses.replace(taken, source={**taken.source, **({"told": said} if said else {})})


def _loaded(target: Path, classifier: str, taken: Taken) -> Classifier:
    try:
        network = Classifier.from_folder(target).eval().requires_grad_(False)
    except Exception as error:  # whatever the library raises of a config or weights
        said = " ".join(str(error).split()).replace(str(target), classifier)[:LONGEST]
        raise BundleError(
            f"{classifier}: expected a network that {taken.library} builds as {taken.architecture}, got: {said}"
        ) from error
    # An infinite one may show in no logit: a channel that is divided by it is silent.
    if wrong := weights.not_finite(network.net):
        raise BundleError(f"{classifier}: expected finite weights, got others in {', '.join(wrong)}")
    return network


def _read(path: Path, given: str, target: Path, shape: Shape | None, told: Told, classes: int | None) -> Taken:
    if path.is_dir():
        return _folder(path, target, shape, told)
    if path.suffix.lower() == ".onnx" and path.exists():
        return onnx.from_file(path, target, shape, told, classes)
    if path.exists() and path.suffix.lower() in weights.SUFFIXES:
        return _weights(path, target, shape, told)
    if path.exists():
        raise BundleError(
            f"{path}: expected an .onnx file, or weights ({', '.join(weights.SUFFIXES)}) with --architecture; networks "
            "of other libraries can be exported to ONNX"
        )
    from . import timm

    return timm.from_name(given, target, shape, told)


def _folder(folder: Path, target: Path, shape: Shape | None, told: Told) -> Taken:
    from . import timm

    if (folder / CLASSIFIER).is_file() or (folder.name == "classifier" and (folder.parent / MANIFEST).is_file()):
        return _packed(folder, target, shape, told)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = {}  # timm's reader says what is wrong with it
    if isinstance(config, dict) and config.get("architecture") is None and isinstance(config.get("model_type"), str):
        from . import transformers

        return transformers.from_folder(folder, target, shape, told)
    if not (folder / "config.json").exists() and (models := sorted(folder.glob("*.onnx"))):
        raise BundleError(f"{folder}: expected a file of it, as --classifier {models[0]}, got a folder")
    return timm.from_folder(folder, target, shape, told)


def _weights(path: Path, target: Path, shape: Shape | None, told: Told) -> Taken:
    if told.architecture is None:
        weights.load_weights(path)  # what is no state dict at all is said first
        raise BundleError(
            f"{path}: expected --architecture: timm's name of it (resnet50), or torchvision:NAME, which no weight tells"
        )
    from . import timm, torchvision

    if told.architecture.startswith(torchvision.PREFIX):
        return torchvision.from_weights(path, target, shape, told)
    return timm.from_weights(path, target, shape, told)


def _packed(folder: Path, target: Path, shape: Shape | None, told: Told) -> Taken:
    """The classifier/ of another bundle."""
    record = read_record(folder)
    found = vars(record.preprocessing)
    # Bundles of earlier versions have no record.
    said_by = folder / (CLASSIFIER if (folder / CLASSIFIER).exists() else "config.json")
    preprocessing = told.preprocessing(found, f"{said_by}: ", shape)
    told.refuse(("architecture", "model_args", "layout", "output"), f"{said_by} says it")
    if record.library == "onnx":
        size = preprocessing.input_size[1:]
        again = Told(output=record.output, layout=preprocessing.layout, scale=preprocessing.scale, input_size=size)
        taken = onnx.from_file(folder / ONNX, target, shape, again, None)
        return dataclasses.replace(taken, preprocessing=preprocessing, preprocessing_from=str(said_by))
    target.mkdir()
    files = [folder / name for name in ("config.json", "model.safetensors")]
    for file in files:
        shutil.copyfile(file, target / file.name)
    config = read_object(folder / "config.json")
    return Taken(
        library=record.library,
        architecture=str(config.get("architecture", config.get("model_type"))),
        outputs=0,  # counted when it is tried
        labels=names_in_config(config, folder / "config.json"),
        labels_from=str(folder / "config.json"),
        preprocessing=preprocessing,
        preprocessing_from=str(said_by),
        source={"kind": "a bundle's classifier", "files": digests(files)},
    )
