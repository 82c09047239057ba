"""The Open Inference Protocol's bodies (v2, https://github.com/kserve/open-inference-protocol), its tensors in JSON or
as raw bytes behind it (Triton's binary extension): one input `image`, fields as parameters, an answer as tensors.

Whatever a body holds is counted before it is built, as in http/json_bodies.py.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..answering.fields import check_fields, read_field, shown
from ..answering.schemas import CertifyAnswer, CertifyFields
from ..errors import RequestError
from .bodies import Body
from .image_texts import decode_image_text
from .json_bodies import kind_of, load

__all__ = ("INPUT", "MODEL", "OUTPUTS", "VERSION", "Inference", "parse_inference", "write_inference")

MODEL, VERSION = "certify", "1"
INPUT = {"name": "image", "datatype": "BYTES", "shape": [1]}
# A radius is rounded down in float64; in FP32 it could be rounded up again.
OUTPUTS = {
    "outcome": "BYTES",
    "label": "BYTES",
    "label_index": "INT64",
    "radius": "FP64",
    "sigma": "FP64",
    "answer": "BYTES",
}
_MEMBERS = ("id", "parameters", "inputs", "outputs")
_PIXELS: dict[str, tuple[str, type[np.generic]]] = {"UINT8": ("u1", np.uint8), "FP32": ("<f4", np.float32)}
_PACKED = {"INT64": "<q", "FP64": "<d"}
# All of JSON but the tensor's numbers, or the image's text.
_MAX_VALUES = 4096
_MAX_TEXT_BYTES = 64 * 1024
_MAX_DIMENSIONS = 8
_MAX_ID = 128
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Inference:
    """What a request wants beside its fields and image."""

    id: str | None
    outputs: Mapping[str, bool]  # which, and whether in binary


def parse_inference(body: bytes, *, header_length: str | None, pixels: int) -> tuple[Body[CertifyFields], Inference]:
    """header_length: of the JSON before raw tensors; None: all is JSON. pixels: of the bundle's input, all channels.

    Raises RequestError.
    """
    head, raw = _split(body, header_length)
    marks = sum(head.count(mark) for mark in (b"[", b"{", b",", b":"))
    if marks > _MAX_VALUES + 2 * pixels:
        raise _malformed(f"expected at most {_MAX_VALUES} values beside the image's, got about {marks}")
    if len(head) > _MAX_TEXT_BYTES and not head.isascii():  # as text it would take four times as much
        raise _malformed("expected ASCII")
    request = _object(_loaded(head, alone=header_length is None), "body")
    for name in request:
        if name not in _MEMBERS:
            raise RequestError("unknown_field", f"{shown(name)}: expected one of {list(_MEMBERS)}", field=shown(name))
    parameters = _parameters(request)
    all_binary = parameters.pop("binary_data_output", False) is True
    if INPUT["name"] in parameters:
        raise RequestError("unknown_field", "image: expected as an input, got it as a parameter", field="image")
    image = _image(_list(request.get("inputs"), "inputs"), memoryview(raw))
    fields = check_fields({name: _parameter(name, value) for name, value in parameters.items()}, CertifyFields)
    if fields.signed:
        raise _refused("signed", "false, since only POST /v1/certify answers an envelope, got true")
    request_id = request.get("id")
    if request_id is not None and not (isinstance(request_id, str) and len(request_id) <= _MAX_ID):
        raise _refused("id", f"text of at most {_MAX_ID} characters")
    asked = request.get("outputs")
    outputs = _outputs([] if asked is None else _list(asked, "outputs"), all_binary)
    return Body(fields=fields, image=image), Inference(id=request_id, outputs=outputs)


def write_inference(answer: CertifyAnswer, inference: Inference) -> tuple[bytes, int | None]:
    """The response's body, and the length of its JSON if raw tensors follow it."""
    values: dict[str, Any] = {
        "outcome": answer.outcome,
        "label": answer.label.name if answer.label else "",
        "label_index": answer.label.index if answer.label else -1,
        "radius": answer.radius,
        "sigma": answer.sigma or 0.0,
        "answer": answer.model_dump_json(),
    }
    outputs: list[Json] = []
    raw = b""
    for name, binary in inference.outputs.items():
        output: Json = {"name": name, "datatype": OUTPUTS[name], "shape": [1]}
        if binary:
            packed = _packed(OUTPUTS[name], values[name])
            output["parameters"] = {"binary_data_size": len(packed)}
            raw += packed
        else:
            output["data"] = [values[name]]
        outputs.append(output)
    response = {"model_name": MODEL, "model_version": VERSION, "id": inference.id or answer.id, "outputs": outputs}
    head = json.dumps(response).encode()
    return head + raw, len(head) if raw else None


def _split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    size = int(header_length) if header_length.isdecimal() and len(header_length) < 10 else -1
    if not 0 <= size <= len(body):
        raise _malformed(f"expected Inference-Header-Content-Length of at most {len(body)}, got {shown(header_length)}")
    return body[:size], body[size:]


def _image(inputs: list[Any], raw: memoryview) -> bytes | NDArray[Any]:
    if len(inputs) != 1:
        raise _refused("inputs", f"one tensor called image, got {len(inputs)}")
    tensor = _object(inputs[0], "inputs")
    if tensor.get("name") != "image":
        name = shown(str(tensor.get("name")))
        raise RequestError("unknown_field", f"{name}: expected one input called image", field=name)
    kind, shape = tensor.get("datatype"), _shape(tensor.get("shape"))
    size = _parameters(tensor).get("binary_data_size")
    if (size or 0) != len(raw):
        got = "none" if size is None else shown(str(size))
        raise _refused("image", f"binary_data_size of the {len(raw)} bytes that came behind the JSON, got {got}")
    if size is not None and tensor.get("data") is not None:
        raise _refused("image", "data or binary_data_size, got both")
    if kind == "BYTES":
        return _file(tensor.get("data"), None if size is None else raw, math.prod(shape))
    if kind not in _PIXELS:
        raise _refused("image", f"datatype BYTES, UINT8 or FP32, got {shown(str(kind))}")
    form, dtype = _PIXELS[kind]
    if size is not None:
        if len(raw) != math.prod(shape) * np.dtype(form).itemsize:
            raise _refused("image", f"as many bytes as {kind} of shape {shape} takes, got {len(raw)}")
        return np.frombuffer(raw, dtype=form).astype(dtype).reshape(shape)
    numbers = list(_flat(_list(tensor.get("data"), "data"), _MAX_DIMENSIONS))
    if len(numbers) != math.prod(shape):
        raise _refused("image", f"as many numbers as shape {shape} has, got {len(numbers)}")
    kinds: tuple[type, ...]
    kinds, most, said = (int,), 255, "integers of 0 to 255"
    if kind == "FP32":
        kinds, most, said = (int, float), 1, "numbers in [0, 1]"
    if not all(type(each) in kinds and 0 <= each <= most for each in numbers):
        raise _refused("image", said)
    return np.array(numbers, dtype=dtype).reshape(shape)


def _file(data: object, raw: memoryview | None, count: int) -> bytes:
    """One image file: raw behind its length, or as base64 text."""
    if count != 1:
        raise _refused("image", f"one image file, shape [1], got {count}")
    if raw is not None:
        if len(raw) < 4 or struct.unpack("<I", raw[:4])[0] != len(raw) - 4:
            raise _refused("image", "one element: its length in four bytes, little-endian, and as many bytes")
        return bytes(raw[4:])
    texts = list(_flat(_list(data, "data"), _MAX_DIMENSIONS))
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise _refused("image", "one file in base64 as data, or raw (the binary extension)")
    return decode_image_text(texts[0].encode("utf-8", "surrogatepass"))


def _shape(shape: object) -> list[int]:
    sizes = _list(shape, "shape")
    if len(sizes) > _MAX_DIMENSIONS or not all(type(each) is int and 0 <= each < 2**31 for each in sizes):
        raise _refused("image", f"a shape of at most {_MAX_DIMENSIONS} sizes")
    return sizes


def _flat(values: list[Any], depth: int) -> Iterator[Any]:
    if not depth:
        raise _refused("image", f"data in at most {_MAX_DIMENSIONS} dimensions")
    for value in values:
        if isinstance(value, list):
            yield from _flat(value, depth - 1)
        else:
            yield value


def _parameter(name: str, value: object) -> object:
    """Parameters are text, numbers or truths: a list, or whatever a client spells as text, is read as a form's is."""
    if not isinstance(value, str) or name not in CertifyFields.model_fields:
        return value
    text = value.strip()
    return read_field(name, [text], CertifyFields) if text else None


def _outputs(asked: list[Any], all_binary: bool) -> dict[str, bool]:
    wanted: dict[str, bool] = {}
    for each in asked:
        output = _object(each, "outputs")
        name = output.get("name")
        if name not in OUTPUTS:
            said = shown(str(name))
            raise RequestError("unknown_field", f"{said}: expected one of the outputs {list(OUTPUTS)}", field=said)
        wanted[name] = _parameters(output).get("binary_data", all_binary) is True
    return wanted or dict.fromkeys(OUTPUTS, all_binary)


def _packed(kind: str, value: Any) -> bytes:
    if kind == "BYTES":
        data = str(value).encode()
        return struct.pack("<I", len(data)) + data
    return struct.pack(_PACKED[kind], value)


def _loaded(head: bytes, *, alone: bool) -> object:
    """alone: no header says where raw tensors begin."""
    try:
        return load(head)
    except RequestError as error:
        if alone and b"binary_data_size" in head:
            detail = f"{error.detail}; raw tensors behind it need the header Inference-Header-Content-Length"
            raise RequestError(error.code, detail) from None
        raise


def _parameters(holder: Json) -> Json:
    """Of a request, an input or an output: some clients write null where there are none."""
    given = holder.get("parameters")
    return {} if given is None else dict(_object(given, "parameters"))


def _object(value: Any, name: str) -> Json:
    if not isinstance(value, dict):
        raise _refused(name, f"an object, got {_got(value)}")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise _refused(name, f"a list, got {_got(value)}")
    return value


def _got(value: object) -> str:
    return "nothing" if value is None else kind_of(value)


def _refused(name: str, expected: str) -> RequestError:
    return RequestError("out_of_range", f"{name}: expected {expected}", field=name)


def _malformed(what: str) -> RequestError:
    return RequestError("malformed_body", f"body: {what}")
