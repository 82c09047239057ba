"""Pickles of CIFAR's kind, of which nothing runs: dicts, lists, bytes, numbers, text and plain numpy arrays.

A pickle is a program, and numpy's own part of it trusts what it is given. Therefore even arrays are made by functions
of this module: a pickle that asks for any other name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

__all__ = ("load_plain",)

_KINDS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


def load_plain(data: bytes, where: object) -> Any:
    """The object in a pickle, Python 2's text as bytes; arrays where they are the whole or a value of it.

    Raises DataError if the pickle holds anything but plain data.
    """
    try:
        _check_memo(data)
        whole = _Unpickler(data).load()
        return {key: _plain(value) for key, value in whole.items()} if isinstance(whole, dict) else _plain(whole)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle raises almost anything
        raise DataError(f"{where}: expected a pickle of plain data: {type(error).__name__}: {error}") from error


def _check_memo(data: bytes) -> None:
    """A pickle numbers what it keeps one after another; the unpickler makes as many places as the largest number says.

    Raises DataError for a number that would make more of them than there are operations.
    """
    for at, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if operation.name in _PUTS and argument is not None and argument > at:
            raise DataError(f"expected at most {at} things kept so far, got number {argument}")


class _Array:
    """What stands for an array until its state comes."""

    value: NDArray[Any] | None = None


def _plain(value: Any) -> Any:
    if not isinstance(value, _Array):
        return value
    if value.value is None:
        raise DataError("expected an array's shape, dtype and bytes, got an array without them")
    return value.value


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._allowed = _allowed()

    def find_class(self, module: str, name: str) -> Any:
        for folder in ("numpy.core.", "numpy._core.", "numpy."):
            short = f"{module}.{name}".removeprefix(folder)
            if short in self._allowed and module.startswith("numpy"):
                return self._allowed[short]
        if (module, name) == ("_codecs", "encode"):  # bytes in protocol 2, as Python 3 writes them
            return self._allowed["encode"]
        raise DataError(f"expected dicts, lists, bytes and numpy arrays alone, got {module}.{name}, which is not run")


def _allowed() -> dict[str, Callable[..., Any]]:
    """Fresh ones for each pickle, which might write to what it is given."""

    class DType:
        """Stands for a numpy.dtype of plain numbers."""

        def __init__(self, kind: Any, *_: Any) -> None:
            kind = kind.decode() if isinstance(kind, bytes) else kind
            if not isinstance(kind, str) or kind not in _KINDS:  # what else it is may be long to write
                got = repr(kind[:20]) if isinstance(kind, str) else type(kind).__name__
                raise DataError(f"expected an array of plain numbers, got dtype {got}")
            self.dtype = np.dtype(kind)

        def __setstate__(self, state: Any) -> None:
            order: Any = state[1].decode() if isinstance(state[1], bytes) else state[1]
            if order in ("<", ">"):
                self.dtype = self.dtype.newbyteorder(order)

    class Array(_Array):
        def __setstate__(self, state: Any) -> None:
            _, shape, kind, is_fortran, content = state
            self.value = array(content, kind, shape, "F" if is_fortran else "C")

    def array(content: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
        if not isinstance(kind, DType) or not isinstance(content, bytes | bytearray):
            raise DataError("expected an array's bytes and dtype, got something else")
        # A number times a text, or a tuple, is as many of them.
        if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
            raise DataError("expected an array's shape, a tuple of whole numbers from 0, got something else")
        if len(content) != math.prod(shape) * kind.dtype.itemsize:
            raise DataError(f"expected {shape} of {kind.dtype}, got {len(content)} bytes")
        return np.frombuffer(content, dtype=kind.dtype).reshape(shape, order="F" if order in ("F", b"F") else "C")

    def scalar(kind: Any, content: Any) -> Any:
        return array(content, kind, (1,), "C")[0].item()

    def encode(text: Any, encoding: Any) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise DataError("expected bytes as latin1 text, got something else")
        return text.encode("latin1")

    return {
        "multiarray._reconstruct": lambda *_: Array(),
        "multiarray.scalar": scalar,
        "numeric._frombuffer": array,
        "ndarray": lambda *_: Array(),
        "dtype": DType,
        "encode": encode,
    }
