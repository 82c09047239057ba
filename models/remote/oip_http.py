"""The open inference protocol, version 2, over HTTP: KServe, Triton, OpenVINO Model Server, MLServer and others.

https://github.com/kserve/open-inference-protocol. Where the server has the extension `binary_tensor_data`, pictures
go as bytes and not as text; answers are JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RemoteError
from .answers import Answer, Passing, read_answer
from .declared import Remote, parse_url
from .http import JSON_HEADERS, Http
from .limits import Limits
from .metadata import normal
from .pictures import laid_out

__all__ = ("OipHttp",)

DATATYPES = {"fp32": "FP32", "uint8": "UINT8"}
NUMBERS = ("FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BF16")
BINARY = "binary_tensor_data"
# Bytes of an answer: a score has at most two dozen characters, and the rest of it is small.
MOST_BYTES, BYTES_A_SCORE = 2**20, 64
DEEPEST = 4  # dimensions of an answer's tensor


class OipHttp:
    """Make and use it inside one event loop."""

    def __init__(self, url: str, limits: Limits) -> None:
        self._address = parse_url(url)
        self._http = Http(limits)
        self._binary: bool | None = None  # None: not asked yet

    async def about(self) -> dict[str, Any]:
        """The model's metadata; {} where the server has none. Raises as Http.ask."""
        raw = await self._http.ask(self._address.base, absent=(404, 405, 501))
        return {} if raw is None else normal(raw, self._address)

    async def ask(self, pictures: NDArray[np.float32], remote: Remote, names: Sequence[str]) -> Answer:
        """One call. pictures: float32 (N, C, H, W), as declared. names: the classes'. Raises as Http.ask."""
        if self._binary is None:
            self._binary = await self._takes_bytes()
        values = laid_out(pictures, remote.input)
        tensor: dict[str, Any] = {
            "name": remote.input.name, "shape": list(values.shape), "datatype": DATATYPES[remote.input.dtype],
        }  # fmt: skip
        wanted: dict[str, Any] = {"name": remote.output.name}
        if self._binary:
            data = values.astype(values.dtype.newbyteorder("<")).tobytes()
            tensor["parameters"] = {"binary_data_size": len(data)}
            wanted["parameters"] = {"binary_data": False}
            head = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
            content = head + data
            headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
        else:
            content = json.dumps(
                {"inputs": [{**tensor, "data": values.ravel().tolist()}], "outputs": [wanted]}
            ).encode()
            headers = JSON_HEADERS
        most = MOST_BYTES + BYTES_A_SCORE * len(pictures) * len(names)
        raw = await self._http.ask(f"{self._address.base}/infer", content, headers=headers, most_bytes=most)
        assert raw is not None
        return _read(raw, remote, len(pictures), len(names))

    async def close(self) -> None:
        await self._http.close()

    async def _takes_bytes(self) -> bool:
        server = self._address.base[: self._address.base.rindex("/models/")]
        try:
            raw = await self._http.ask(server, absent=tuple(range(300, 600)))
        except (RemoteError, Passing):  # not to say what it is, is no fault
            return False
        extensions = (raw or {}).get("extensions")
        return isinstance(extensions, list) and BINARY in extensions


def _read(raw: dict[str, Any], remote: Remote, count: int, classes: int) -> Answer:
    outputs = raw.get("outputs")
    named = [each for each in outputs if isinstance(each, dict)] if isinstance(outputs, list) else []
    tensor = next((each for each in named if each.get("name") == remote.output.name), None)
    if tensor is None:
        names = ", ".join(str(each.get("name"))[:100] for each in named) or "none"
        raise RemoteError(f"outputs: expected one named {remote.output.name}, got {names}")
    version = raw.get("model_version")
    return read_answer(_array(tensor), remote.output.kind, count, classes, "" if version is None else str(version))


def _array(tensor: dict[str, Any]) -> NDArray[Any]:
    """A tensor's data, flat or nested, in its shape. Raises RemoteError."""
    name, shape, data, datatype = (tensor.get(key) for key in ("name", "shape", "data", "datatype"))
    if datatype not in NUMBERS:
        raise RemoteError(
            f"outputs: {name}: datatype: expected one of {', '.join(NUMBERS)}, got {str(datatype)[:50]!r}"
        )
    flat = _flat(data, DEEPEST) if isinstance(data, list) else None
    sides = shape if isinstance(shape, list) and all(type(side) is int and side >= 0 for side in shape) else None
    if (
        flat is None
        or sides is None
        or not 1 <= len(sides) <= DEEPEST
        or int(np.prod(sides, dtype=object)) != len(flat)
    ):
        got = "no list" if flat is None else f"{len(flat)} values"
        raise RemoteError(f"outputs: {name}: expected a list of numbers that fills its shape {shape}, got {got}")
    try:
        return np.array(flat, dtype=np.float64 if "F" in datatype else np.int64).reshape(sides)
    except (TypeError, ValueError, OverflowError) as error:
        raise RemoteError(f"outputs: {name}: expected numbers of {datatype}, got others: {error}") from None


def _flat(values: list[Any], deepest: int) -> list[Any] | None:
    """Numbers in the order of rows, from lists in lists; None if something else is among them, or deeper lists."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, list) and deepest > 1:
            inner = _flat(value, deepest - 1)
            if inner is None:
                return None
            found += inner
        elif type(value) in (int, float):
            found.append(value)
        else:
            return None
    return found
