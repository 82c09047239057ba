"""A graph of a bundle's networks: traced by torch, converted for OpenVINO, with the same bytes each time.

What is written is the networks' own operations. OpenVINO's `convert_model` would fold batch norms into convolutions,
whose weights are then no longer those of the source; the compiler does so anyway, when it knows the CPU.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .bundle import GRAPH, Manifest, file_digests
from .graph import CONSTANTS, answer_of, load_openvino
from .networks import Graph, load_networks
from .traceable import traced

__all__ = ("converted", "with_graph")

EXAMPLE = 2  # samples while tracing; 1 could be taken for a dimension to broadcast
SMALL = 64  # values: what shorter constants would save is less than the operation that widens them


class _Both(Graph):
    """Graph, and what it saw on the way."""

    def forward(self, noisy: Tensor, timestep: Tensor, signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        denoised = self.denoiser.denoise_at(noisy, timestep, signal, noise)
        return denoised, self.classifier(denoised)


def converted(folder: Path, manifest: Manifest) -> tuple[Any, tuple[float, ...]]:
    """The networks in `folder` as models.graph has it, an openvino.Model, and the timesteps of the manifest's sigmas.

    Raises BundleError if the networks are not the manifest's.
    """
    load_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.passes import ConstantFolding, Manager

    denoiser, classifier = load_networks(folder, manifest)
    # One graph for both dtypes: in bfloat16 it is the compiler that rounds.
    both = _Both(denoiser.float(), classifier.float())
    example = (torch.zeros(EXAMPLE, *manifest.input_shape), *(torch.ones(EXAMPLE) for _ in CONSTANTS))
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced(both, example), example_input=example)  # must outlive the conversion
    model = frontend.convert(frontend.load(decoder))
    for port, name, like in zip(model.inputs, ("noisy", *CONSTANTS), example, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_partial_shape(load_openvino().PartialShape([-1, *like.shape[1:]]))
    for port, name in zip(model.outputs, ("denoised", answer_of(manifest)[0]), strict=True):
        port.get_tensor().set_names({name})
    model.validate_nodes_and_infer_types()
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)
    _own_constants(model)
    _rename(model)
    model = load_openvino().Model(model.get_results(), model.get_parameters(), "bundle")  # a name, too
    return model, tuple(float(denoiser.constants(sigma)[0]) for sigma in manifest.sigmas)


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


def _rename(model: Any) -> None:
    """Names by place: OpenVINO's own count what this process made before."""
    for number, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
        if operation.get_type_name() not in ("Parameter", "Result"):
            for port in operation.outputs():
                port.get_tensor().set_names(port.get_names() & {"denoised", "logits", "pictures"})


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
