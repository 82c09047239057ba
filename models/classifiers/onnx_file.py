"""An ONNX file looked through before anything reads it: is it whole, and does it hold its own weights?

Its runtimes read weights from any file that it names, whose bytes no digest would cover. What is walked here is the
wire format of protocol buffers, by the field numbers of onnx.proto (https://github.com/onnx/onnx), which never change.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import BundleError
from ..files import not_a_pointer

__all__ = ("check_file",)

# Of each message, the fields that hold others in which tensors can be.
CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
NAME, EXTERNAL, LOCATION = 8, 13, 14  # of a tensor: its name, where its data are, 1 if elsewhere
GRAPH = 7  # of a model
DEEPEST = 100  # messages within messages, as protocol buffers' own readers have it
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def check_file(path: Path) -> None:
    """Raises BundleError unless it is a whole ONNX model whose weights are all inside."""
    try:
        data = memoryview(not_a_pointer(path).read_bytes())
        fields = {number for number, _, _ in _fields(data)}
        elsewhere = next(_elsewhere(data, "model", 0), None)
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise BundleError(
            f"{path}: expected a whole ONNX model, got a file that is cut short or is none ({error}); copy it again "
            "and compare its size: python -c \"import onnx; onnx.checker.check_model('FILE')\" says more"
        ) from error
    except OSError as error:
        raise BundleError(f"{path}: expected an ONNX model: {error}") from error
    if GRAPH not in fields:
        raise BundleError(f"{path}: expected an ONNX model with a graph, got none")
    if elsewhere is not None:
        name, file = elsewhere
        raise BundleError(
            f"{path}: {name}: expected its weights inside, got external data in {file!r}; with that file beside it, "
            f"write one file, and give it: python -c \"import onnx; onnx.save(onnx.load('{path.name}'), 'one.onnx')\""
        )


def _elsewhere(data: memoryview, kind: str, depth: int) -> Iterator[tuple[str, str]]:
    """(tensor, file) of every tensor whose data are not in `data`, a message of this kind."""
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} messages within each other")
    if kind == "tensor":
        found = {number: value for number, _, value in _fields(data)}
        if found.get(LOCATION) == 1 or EXTERNAL in found:
            entries = dict(_entry(value) for number, _, value in _fields(data) if number == EXTERNAL)
            yield _text(found.get(NAME)) or "a tensor", entries.get("location", "")
        return
    children = CHILDREN[kind]
    for number, wire, value in _fields(data):
        if number in children and wire == BYTES and isinstance(value, memoryview):
            yield from _elsewhere(value, children[number], depth + 1)


def _entry(value: memoryview | int) -> tuple[str, str]:
    assert isinstance(value, memoryview)
    found = {number: _text(part) for number, _, part in _fields(value)}
    return found.get(1, ""), found.get(2, "")


def _text(value: memoryview | int | None) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else ""


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview | int]]:
    """(number, wire type, value) of a message's fields. Raises ValueError or IndexError where it ends too soon."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == BYTES:
            length, at = _varint(data, at)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"a field of wire type {wire}")
        if number == 0 or at + length > len(data):
            raise ValueError(f"a field of {length} bytes where {len(data) - at} are left")
        yield number, wire, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")
