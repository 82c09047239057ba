"""ONNX files of a few nodes, written by hand: the wire format of protocol buffers, by the numbers of onnx.proto."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TYPES = {"float32": 1, "uint8": 2, "int64": 7}
Node = tuple[str, Sequence[str], str, Mapping[str, int]]  # operator, inputs, output, attributes


def write(path: Path, nodes: Sequence[Node], weights: Mapping[str, Any], takes: list[int], gives: list[int]) -> Path:
    """A network of the input "input" and the output "logits", float32 of these sizes; 0 = any."""
    graph = b"".join(_field(1, _node(*node)) for node in nodes) + _field(2, b"graph")
    graph += b"".join(_field(5, _tensor(name, np.asarray(value))) for name, value in weights.items())
    graph += _field(11, _value("input", takes)) + _field(12, _value("logits", gives))
    path.write_bytes(_number(1, 8) + _field(8, _field(1, b"") + _number(2, 17)) + _field(7, graph))
    return path


def linear(path: Path, takes: list[int], classes: int) -> Path:
    """Flattened, times random weights."""
    size = int(np.prod(takes[1:]))
    weights = np.random.default_rng(0).normal(size=(size, classes)).astype(np.float32)
    nodes: list[Node] = [("Flatten", ["input"], "flat", {"axis": 1}), ("MatMul", ["flat", "w"], "logits", {})]
    return write(path, nodes, {"w": weights}, takes, [takes[0], classes])


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _node(operator: str, inputs: Sequence[str], output: str, attributes: Mapping[str, int]) -> bytes:
    named = b"".join(_field(1, name.encode()) for name in inputs) + _field(2, output.encode())
    given = (_field(1, name.encode()) + _number(3, value) + _number(20, 2) for name, value in attributes.items())
    return named + _field(4, operator.encode()) + b"".join(_field(5, attribute) for attribute in given)


def _tensor(name: str, value: np.ndarray[Any, Any]) -> bytes:
    sizes = b"".join(_number(1, size) for size in value.shape)
    return sizes + _number(2, TYPES[value.dtype.name]) + _field(8, name.encode()) + _field(9, value.tobytes())


def _value(name: str, sizes: list[int]) -> bytes:
    dims = b"".join(_field(1, _number(1, size) if size else _field(2, b"n")) for size in sizes)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, TYPES["float32"]) + _field(2, dims)))
