"""A graph of a bundle's networks: traced by torch, converted for OpenVINO, with the same bytes each time.

What is written is the networks' own operations. OpenVINO's `convert_model` would fold batch norms into convolutions,
whose weights are then no longer those of the source; the compiler does so anyway, when it knows the CPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .bundle import GRAPH, Manifest, file_digests
from .classifier import Classifier, NotInTorch
from .denoiser import Denoiser
from .graph import inputs_of, load_openvino, logits_of
from .networks import load_networks
from .traceable import traced

__all__ = ("converted", "with_graph")

EXAMPLE = 2  # samples while tracing; 1 could be taken for a dimension to broadcast
SMALL = 64  # values: what shorter constants would save is less than the operation that widens them


class _Denoised(nn.Module):
    """Noisy pixels -> denoised ones, and the logits of each classifier."""

    def __init__(self, denoiser: Denoiser, classifiers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.classifiers = nn.ModuleList(classifiers)

    def forward(self, noisy: Tensor, timestep: Tensor, signal: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        denoised = self.denoiser.denoise_at(noisy, timestep, signal, noise)
        return denoised, *(classifier(denoised) for classifier in self.classifiers)


class _Plain(nn.Module):
    """Pixels -> the logits of each classifier."""

    def __init__(self, classifiers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.classifiers = nn.ModuleList(classifiers)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(classifier(images) for classifier in self.classifiers)


def converted(folder: Path, manifest: Manifest) -> tuple[Any, tuple[float, ...]]:
    """The networks in `folder` as models.graph has it, an openvino.Model, and the denoised sigmas' timesteps.

    Raises BundleError if the networks are not the manifest's.
    """
    load_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.passes import ConstantFolding, Manager

    # One graph for both dtypes: in bfloat16 it is the compiler that rounds.
    networks = load_networks(folder, manifest).each(lambda net: net.float())
    denoiser = networks.denoiser
    outputs = {name: sigma for sigma, name in logits_of(manifest).items()}
    classifiers = [networks.classifiers[sigma] for sigma in outputs.values()]
    all_of_it = _Plain(classifiers) if denoiser is None else _Denoised(denoiser, classifiers)
    inputs = inputs_of(manifest)
    example = (torch.zeros(EXAMPLE, *manifest.input_shape), *(torch.ones(EXAMPLE) for _ in inputs[1:]))
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced(all_of_it, example), example_input=example)  # must outlive the conversion
    model = frontend.convert(frontend.load(decoder))
    for port, name, like in zip(model.inputs, inputs, example, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_partial_shape(load_openvino().PartialShape([-1, *like.shape[1:]]))
    model.validate_nodes_and_infer_types()
    names = (*(("denoised",) if denoiser is not None else ()), *outputs)
    for name, sigma in outputs.items():
        classifier = networks.classifiers[sigma]
        if isinstance(classifier, Classifier) and isinstance(classifier.net, NotInTorch):
            from .classifiers.onnx import behind

            model = behind(model, names.index(name), folder / manifest.classifiers[sigma])
    for port, name in zip(model.outputs, names, strict=True):
        port.get_tensor().set_names({name})
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)
    _own_constants(model)
    _rename(model, set(names))
    model = load_openvino().Model(model.get_results(), model.get_parameters(), "bundle")  # a name, too
    if denoiser is None:
        return model, ()
    return model, tuple(float(denoiser.constants(sigma)[0]) for sigma in manifest.denoised_sigmas)


def _own_constants(model: Any) -> None:
    """Copies in place of what lies in torch's memory. What bfloat16 holds exactly is in it, and widened when used."""
    openvino = load_openvino()
    for constant in model.get_ops():
        if constant.get_type_name() != "Constant":
            continue
        own = openvino.op.Constant(np.array(constant.data))
        if constant.get_element_type() == openvino.Type.f32 and own.data.size >= SMALL:
            bits = own.data.view(np.uint32)
            if not (bits & 0xFFFF).any():
                narrow = openvino.Tensor(openvino.Type.bf16, openvino.Shape(list(bits.shape)))
                narrow.data.view(np.uint16)[...] = bits >> 16
                own = openvino.opset13.convert(openvino.op.Constant(narrow), "f32")
        for target in constant.output(0).get_target_inputs():
            target.replace_source_output(own.output(0))


def _rename(model: Any, outputs: set[str]) -> None:
    """Names by place: OpenVINO's own count what this process made before, also where it notes what it fused."""
    for number, operation in enumerate(model.get_ordered_ops()):
        notes = operation.get_rt_info()
        for key in [key for key in notes if key.startswith("fused_names")]:
            del notes[key]
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
        if operation.get_type_name() not in ("Parameter", "Result"):
            for port in operation.outputs():
                port.get_tensor().set_names(port.get_names() & outputs)


def with_graph(manifest: Manifest, folder: Path) -> Manifest:
    """Write folder/graph, of the networks beside it; the manifest that lists it. An earlier graph is replaced."""
    sources = {name: manifest.files[name] for name in manifest.sources}
    bare = dataclasses.replace(manifest, files=sources, timesteps=())
    model, timesteps = converted(folder, bare)
    xml, constants = (folder / name for name in GRAPH)
    xml.parent.mkdir(exist_ok=True)
    load_openvino().serialize(model, str(xml), str(constants))
    files = {**sources, **{name: digest for name, digest in file_digests(folder).items() if name in GRAPH}}
    return dataclasses.replace(bare, files=files, timesteps=timesteps)
