"""An ONNX network as a classifier: looked through, and joined behind a graph, by OpenVINO."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from ..classifier import ONNX
from ..errors import BundleError
from ..graph import FORBIDDEN, load_openvino
from ..preprocessing import read_record
from .onnx_file import check_file
from .onnx_rewrite import group_norms_rewritten, last_operation, without_probabilities
from .told import Shape, Taken, Told, digests

__all__ = ("behind", "from_file")

# One sample, an odd number, and a micro-batch: a batch that is written into the network shows at one of them.
BATCHES = (1, 3, 64)
FLOATS = ("f32", "f16", "f64", "bf16")
LONGEST = 400


def from_file(path: Path, target: Path, shape: Shape | None, told: Told, classes: int | None) -> Taken:
    """classes: how many names were given, None if none: it chooses among several outputs."""
    told.refuse(("architecture", "model_args"), f"{path} has its own")
    model = _read(path)
    found = _input(model, path, shape, told)
    preprocessing = told.preprocessing(found, f"{path}: ", shape)
    output = _output(model, path, preprocessing.input_size, preprocessing.layout, told, classes)
    network, outputs, cut = _classifier(model, path, preprocessing.input_size, preprocessing.layout, output)
    target.mkdir()
    shutil.copyfile(path, target / ONNX)
    notes = [f"output {output}" + (f": its {cut} is left out, which moves no vote" if cut else "")]
    if not told.given.keys() & {"mean", "std", "scale"} and preprocessing.dtype != "uint8":
        notes.append("nothing was said of mean, std or scale: it gets pixels in [0, 1] as they are")
    return Taken(
        library="onnx",
        architecture=f"a network of {len(network.get_ops())} operations",
        outputs=outputs,
        labels=None,
        labels_from=str(path),
        preprocessing=preprocessing,
        preprocessing_from=f"{path} and the options" if told.given else str(path),
        parameters=sum(_numbers(operation) for operation in network.get_ops()),
        notes=tuple(notes),
        output=output,
        source={"kind": "ONNX file", "files": digests((path,))},
    )


def behind(graph: Any, place: int, folder: Path) -> Any:
    """`graph`, whose output at `place` is what the network in `folder` takes, with its logits in that place.

    folder: a classifier's, in a bundle. Raises BundleError.
    """
    openvino = load_openvino()
    record, path = read_record(folder), folder / ONNX
    told = record.preprocessing
    network, _, _ = _classifier(_read(path), path, told.input_size, told.layout, record.output)
    for operation in network.get_ops():  # a name within it must not be taken for one of the graph's
        for port in operation.outputs():
            port.get_tensor().set_names(set())
    results = graph.get_results()
    (parameter,), (result,) = network.get_parameters(), network.get_results()
    given, kind = results[place].input_value(0), parameter.get_element_type()
    if kind != openvino.Type.f32:  # of uint8, whole numbers in 0..255 already
        given = openvino.opset13.convert(given, kind.get_type_name()).output(0)
    for port in parameter.output(0).get_target_inputs():
        port.replace_source_output(given)
    results[place] = openvino.opset13.result(result.input_value(0))
    return openvino.Model(results, graph.get_parameters(), "bundle")


def _read(path: Path) -> Any:
    check_file(path)
    core = load_openvino().Core()
    core.set_property({"ENABLE_MMAP": False})
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise BundleError(f"{path}: expected a network that OpenVINO reads, got: {_why(error)}") from error
    kinds = {operation.get_type_name() for operation in model.get_ops()}
    if wrong := sorted(kinds & FORBIDDEN):
        raise BundleError(
            f"{path}: expected operations of one sample, the same at every call, got {', '.join(wrong)}; export the "
            "network in evaluation mode, without random or stateful operations and loops"
        )
    return model


def _why(error: Exception) -> str:
    """OpenVINO's own words; of operators that it does not know, their names."""
    lines = [line.strip("- ") for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if line.startswith("No conversion rule")]
    return " ".join(named or lines)[-LONGEST:]


def _input(model: Any, path: Path, shape: Shape | None, told: Told) -> dict[str, Any]:
    """Fields of Preprocessing that the network's input tells. Raises BundleError."""
    if len(model.inputs) != 1:
        raise BundleError(f"{path}: expected one input, a picture, got {', '.join(map(_described, model.inputs))}")
    port = model.inputs[0]
    kind, sizes = port.get_element_type().get_type_name(), port.get_partial_shape()
    where = f"{path}: input {_described(port)}"
    if sizes.rank.is_dynamic or len(sizes) != 4:
        raise BundleError(f"{where}: expected a picture, (N, C, H, W) or (N, H, W, C)")
    if kind not in (*FLOATS, "u8"):
        raise BundleError(f"{where}: expected float or uint8 numbers; put a Cast into the network")
    if kind == "u8" and told.scale not in (None, 255):
        raise BundleError(
            f"--scale: expected 255 or none, since {where} takes whole numbers 0..255, got {told.scale:g}"
        )
    fixed = [None if size.is_dynamic else size.get_length() for size in sizes]
    allowed = (shape[0],) if shape else (1, 3)
    layouts = [name for name, at in (("nchw", 1), ("nhwc", 3)) if fixed[at] in allowed]
    if told.layout is not None:
        at = 1 if told.layout == "nchw" else 3
        layouts = [told.layout] if fixed[at] is None or fixed[at] in allowed else []
    if len(layouts) > 1 or (not layouts and None in (fixed[1], fixed[3])):
        raise BundleError(f"{where}: expected to be told where its channels are: --layout nchw or nhwc; either can be")
    if not layouts:
        one = "" if shape is None else ", as the pictures have"
        raise BundleError(
            f"{where}: expected {' or '.join(map(str, allowed))} channels{one}, as (N, C, H, W) or (N, H, W, C); put a "
            "layer before it that makes its channels of those"
        )
    channels = fixed[1 if layouts[0] == "nchw" else 3] or (shape[0] if shape else 3)
    sides = fixed[2:] if layouts[0] == "nchw" else fixed[1:3]
    if told.input_size and any(side not in (None, given) for side, given in zip(sides, told.input_size, strict=True)):
        raise BundleError(f"--input-size: expected {'x'.join(map(str, sides))}, as {where} has, got {told.input_size}")
    free = told.input_size or (shape[1:] if shape else None)
    if None in sides and free is None:
        raise BundleError(f"{where}: expected a size; --input-size says it")
    size = tuple(side or other for side, other in zip(sides, free or sides, strict=True))
    found: dict[str, Any] = {"input_size": (channels, *size), "layout": layouts[0]}
    return {**found, "dtype": "uint8", "scale": 255.0} if kind == "u8" else found


def _fixed(model: Any, size: Shape, layout: str, batch: int) -> None:
    channels, height, width = size
    sides = [channels, height, width] if layout == "nchw" else [height, width, channels]
    model.reshape({model.inputs[0]: load_openvino().PartialShape([batch, *sides])})


def _output(model: Any, path: Path, size: Shape, layout: str, told: Told, classes: int | None) -> str:
    """The name of the output that has a number for each class. Raises BundleError."""
    one = model.clone()
    try:
        _fixed(one, size, layout, 1)
    except RuntimeError as error:
        raise BundleError(
            f"{path}: expected a network for one picture of {'x'.join(map(str, size))}, got: {_why(error)}; export it "
            "with an open batch (dynamic_axes or dynamic_shapes)"
        ) from error
    widths = {_name(port): _width(port) for port in one.outputs}
    there = "; ".join(map(_described, model.outputs))
    if told.output is not None:
        named = [_name(port) for port in one.outputs if told.output in port.get_names()]
        if not named:
            raise BundleError(f"--output: expected one of {path}'s ({there}), got {told.output!r}")
        widths = {named[0]: widths[named[0]]}
    usable = {name: width for name, width in widths.items() if width and width >= 2}
    if not usable:
        labels_alone = any(port.get_element_type().is_integral() for port in model.outputs)
        raise BundleError(
            f"{path}: outputs: expected one with a float for each of at least 2 classes, (N, K), (N, K, 1, 1) or "
            f"(N, 1, 1, K), got {there}"
            + ("; of a network with one number, give both classes one (1 - p and p)" if 1 in widths.values() else "")
            + ("; of one that gives the class alone, give what its ArgMax takes" if labels_alone else "")
        )
    if len(usable) > 1 and classes is not None:
        usable = {name: width for name, width in usable.items() if width == classes} or usable
    if len(usable) > 1:
        several = ", ".join(f"{name} ({width} values)" for name, width in usable.items())
        raise BundleError(
            f"{path}: outputs: expected to be told which has the classes, --output or --classes: {several}"
        )
    return next(iter(usable))


def _classifier(model: Any, path: Path, size: Shape, layout: str, output: str) -> tuple[Any, int, str]:
    """(the network with its one output, float32 (N, K), for any N; K; the softmax or sigmoid at its end that was
    left out, "" for none).
    """
    openvino = load_openvino()
    opset = openvino.opset13
    ports = {_name(port): port for port in model.outputs}
    if output not in ports:
        raise BundleError(f"{path}: outputs: expected {output!r}, got {', '.join(ports)}")
    given = ports[output].get_node().input_value(0)
    if last_operation(given).get_type_name() == "TopK":  # sorted: the first is always the largest
        raise BundleError(
            f"{path}: output {output}: expected a float for each class, in their order, got the largest of them "
            "(TopK); give what its TopK takes"
        )
    source, cut = without_probabilities(given)
    flat = opset.reshape(source, opset.constant([0, -1], dtype="int64"), special_zero=True)
    if flat.get_element_type() != openvino.Type.f32:
        flat = opset.convert(flat, "f32")
    network = openvino.Model([opset.result(flat)], model.get_parameters(), "classifier")
    group_norms_rewritten(network)
    found: set[int] = set()
    try:
        for batch in BATCHES:
            one = network.clone()
            _fixed(one, size, layout, batch)
            answer = one.outputs[0].get_partial_shape()
            found.add(answer.to_shape()[1] if answer.is_static and answer.to_shape()[0] == batch else 0)
        _fixed(network, size, layout, -1)
    except RuntimeError as error:
        raise BundleError(f"{path}: {_FIXED_BATCH}, got: {_why(error)}") from error
    if 0 in found or len(found) != 1:
        raise BundleError(f"{path}: {_FIXED_BATCH}, got another number of answers than of pictures")
    return network, found.pop(), cut


_FIXED_BATCH = (
    "expected a network for any number of pictures (its batch may be fixed in the input, not in an operation; export "
    "it with dynamic_axes or dynamic_shapes)"
)


def _width(port: Any) -> int | None:
    """Numbers of one picture, where all but one dimension behind the batch are 1; None of another shape or type."""
    shape = port.get_partial_shape()
    if port.get_element_type().get_type_name() not in FLOATS or not shape.is_static or len(shape) < 2:
        return None
    batch, *sizes = shape.to_shape()
    wide = [size for size in sizes if size != 1]
    return None if batch != 1 or len(wide) > 1 else int((wide or [1])[0])


def _numbers(operation: Any) -> int:
    """Of a constant of weights."""
    constant = operation.get_type_name() == "Constant" and operation.get_element_type().get_type_name() in FLOATS
    return int(math.prod(operation.output(0).get_partial_shape().to_shape())) if constant else 0


def _name(port: Any) -> str:
    """OpenVINO may know an output by several names, of operations that do nothing: one of them, always the same."""
    return min(port.get_names(), default="")


def _described(port: Any) -> str:
    """ "input f32[?,3,32,32]"."""
    return f"{_name(port)} {port.get_element_type().get_type_name()}{port.get_partial_shape()}"
