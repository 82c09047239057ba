"""A bundle's graph: its networks as one function that OpenVINO reads, without torch.

    graph.xml    operations
    graph.bin    constants; those that bfloat16 holds exactly are stored in it, which halves them and changes nothing

    inputs       noisy (N, C, H, W), and of each image's scale timestep, signal, noise (N,)   (models.schedule)
    outputs      denoised (N, C, H, W) in [0, 1], and logits (N, K), or for a classifier that is asked over the network
                 pictures (N, C, H, W) of its size, as it is sent them but for layout and rounding

All are float32. N is open in the file and fixed before it is compiled: an open one is 1.1 to 1.8 times slower. The
plain classifier is what stands between `denoised` and `logits`, cut out: its weights are stored once. A scale without
a denoiser runs it on the noisy pixels. Where no scale has one, the input is images (N, C, H, W) and `denoised` is not
there. Where each scale has a classifier of its own, their outputs are logits_SIGMA, as logits_0.25.

A graph is foreign input. What it says of itself is checked here; that it runs, models.openvino_trial finds out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from .bundle import GRAPH, Manifest
from .errors import BundleError

__all__ = (
    "CONSTANTS",
    "Scale",
    "answer_shape",
    "classifier_of",
    "denoiser_of",
    "inputs_of",
    "load_openvino",
    "logits_of",
    "read_graph",
    "scales_of",
    "whole_of",
)

CONSTANTS = ("timestep", "signal", "noise")  # inputs, after the pixels
# Our largest description is under a megabyte, with a tag for each operation; a parser's memory is ten times that.
LARGEST_XML = 64 * 2**20
LARGEST_BIN = 8 * 2**30  # OpenAI's ImageNet networks have 2.2 GB in float32
# As OpenVINO writes it. It would read ONNX and others under any name, whose weights may lie in files of no digest.
BEGINNING = b'<?xml version="1.0"?>'
# A sample's logits may depend on that sample alone and be the same at every call. Loops could hide the other kinds.
FORBIDDEN = {"RandomUniform", "Multinomial", "ReadValue", "Assign", "Loop", "TensorIterator", "If"}
LONGEST = 300  # characters of OpenVINO's own words that are handed on


class Scale(NamedTuple):
    """What of a graph runs at a noise scale."""

    logits: str  # the output's name
    timestep: float | None  # None: the classifier alone, on the noisy pixels


def logits_of(manifest: Manifest) -> dict[float, str]:
    """Name of each sigma's output; a remote classifier's is what it is asked about."""
    if manifest.remote:
        return dict.fromkeys(manifest.sigmas, "pictures")
    several = len(set(manifest.classifiers.values())) > 1
    return {sigma: f"logits_{sigma!r}" if several else "logits" for sigma in manifest.sigmas}


def scales_of(manifest: Manifest, timesteps: Iterable[float]) -> dict[float, Scale]:
    """What runs at each sigma. timesteps: of the denoised ones."""
    at = dict(zip(manifest.denoised_sigmas, timesteps, strict=True))
    return {sigma: Scale(logits, at.get(sigma)) for sigma, logits in logits_of(manifest).items()}


def inputs_of(manifest: Manifest) -> tuple[str, ...]:
    """Names of the graph's inputs: pixels, and what a denoiser needs beside them."""
    return ("noisy", *CONSTANTS) if manifest.denoised_sigmas else ("images",)


def load_openvino() -> Any:
    """The package. Raises ImportError."""
    # It would report every start to its makers over the network; openvino does without it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def answer_shape(manifest: Manifest) -> tuple[int, ...]:
    """Of one sample, in the graph's outputs beside `denoised`."""
    if manifest.remote:
        from .remote.declared import Remote

        return Remote.of(manifest.remote).input.shape
    return (len(manifest.classes),)


def read_graph(folder: Path, manifest: Manifest) -> Any:
    """The openvino.Model in `folder`, of any N. Raises BundleError if it is not what the manifest speaks of."""
    xml, constants = (folder / name for name in GRAPH)
    for path, most in ((xml, LARGEST_XML), (constants, LARGEST_BIN)):
        size = path.stat().st_size
        if size > most:
            raise BundleError(f"{path}: expected at most {most} bytes, got {size}")
    with xml.open("rb") as file:
        if (got := file.read(len(BEGINNING))) != BEGINNING:
            raise BundleError(f"{xml}: expected a graph that begins with {BEGINNING.decode()}, got {got!r}")
    core = load_openvino().Core()
    core.set_property(
        {"ENABLE_MMAP": False}
    )  # a file that changes later must not change a constant, or end the process
    try:
        model = core.read_model(xml, constants)
    except RuntimeError as error:
        raise BundleError(f"{xml}: expected a graph that OpenVINO reads, got: {_end(error)}") from error
    _check(model, manifest, xml)
    return model


def _check(model: Any, manifest: Manifest, path: Path) -> None:
    image, one = ["?", *map(str, manifest.input_shape)], ["?"]
    pixels, *constants = inputs_of(manifest)
    inputs = {pixels: image, **{name: one for name in constants}}
    outputs = {name: ["?", *map(str, answer_shape(manifest))] for name in logits_of(manifest).values()}
    if manifest.denoised_sigmas:
        outputs["denoised"] = image
    for side, wanted, ports in (("inputs", inputs, model.inputs), ("outputs", outputs, model.outputs)):
        expected = sorted(f"{name} f32[{','.join(sizes)}]" for name, sizes in wanted.items())
        got = sorted(_described(port) for port in ports)
        if got != expected:
            raise BundleError(f"{path}: {side}: expected {', '.join(expected)}, got {', '.join(got)}")
    kinds = {operation.get_type_name() for operation in model.get_ops()}
    if wrong := sorted(kinds & FORBIDDEN):
        raise BundleError(f"{path}: expected operations of one sample, the same at every call, got {', '.join(wrong)}")


def _described(port: Any) -> str:
    """ "logits f32[?,10]"."""
    return f"{'/'.join(sorted(port.get_names()))} {port.get_element_type().get_type_name()}{port.get_partial_shape()}"


def whole_of(model: Any, batch: int, logits: str = "logits") -> Any:
    """(noisy, timestep, signal, noise) -> logits, for N = batch. `model` stays as it is. Raises BundleError."""
    ours = model.clone()
    inputs = [ours.input(name).get_node() for name in ("noisy", *CONSTANTS)]
    return _fixed([_alone(ours, logits)], inputs, batch)


def denoiser_of(model: Any) -> Any:
    """(noisy, timestep, signal, noise) -> denoised, for one image. `model` stays as it is. Raises BundleError."""
    ours = model.clone()
    inputs = [ours.input(name).get_node() for name in ("noisy", *CONSTANTS)]
    return _fixed([_alone(ours, "denoised")], inputs, 1)


def classifier_of(model: Any, batch: int, logits: str = "logits") -> Any:
    """(images) -> logits, a plain classifier, for N = batch. `model` stays as it is. Raises BundleError."""
    openvino = load_openvino()
    ours = model.clone()
    if all(port.get_names() == {"images"} for port in ours.inputs):
        return _fixed([_alone(ours, logits)], ours.get_parameters(), batch)
    cut = ours.output("denoised").get_node().input_value(0)
    images = openvino.opset13.parameter(cut.get_partial_shape(), openvino.Type.f32, "images")
    for target in cut.get_target_inputs():
        target.replace_source_output(images.output(0))
    return _fixed([ours.output(logits).get_node()], [images], batch)


def _alone(model: Any, logits: str) -> Any:
    """The result of this name; the others are removed."""
    for result in model.get_results():
        if logits not in result.output(0).get_names():
            model.remove_result(result)
    (wanted,) = model.get_results()
    return wanted


def _fixed(results: list[Any], inputs: list[Any], batch: int) -> Any:
    openvino = load_openvino()
    try:
        model = openvino.Model(results, inputs, "graph")
        shapes = {port: openvino.PartialShape([batch, *list(port.get_partial_shape())[1:]]) for port in model.inputs}
        model.reshape(shapes)
        (output,) = (port.get_partial_shape() for port in model.outputs)
    except RuntimeError as error:
        raise BundleError(f"{GRAPH[0]}: expected a graph for {batch} samples, got: {_end(error)}") from error
    if not output.is_static or list(output.to_shape())[0] != batch:
        raise BundleError(f"{GRAPH[0]}: expected answers for {batch} samples, got {output}")
    return model


def _end(error: Exception) -> str:
    """What OpenVINO says last is what was wrong."""
    return " ".join(str(error).split())[-LONGEST:]
