"""A multipart/form-data body (RFC 7578) -> its parts, all in memory: nothing is spooled to disk."""

from __future__ import annotations

from dataclasses import dataclass

import python_multipart.multipart as multipart
from python_multipart.exceptions import FormParserError

from ..answering.fields import shown
from ..errors import RequestError

__all__ = ("Part", "parse_form")

# Many times what this API has: room for any client's mistakes, none for a flood of tiny parts.
_MAX_PARTS = 64


@dataclass(frozen=True, kw_only=True)
class Part:
    name: str  # of the field, not yet looked at
    is_file: bool  # it has a filename
    content: bytes


def parse_form(body: bytes, boundary: bytes) -> list[Part]:
    """The parts in their order. Raises RequestError `malformed_body`. Takes milliseconds."""
    return _FormParser(body, boundary).parts()


class _FormParser:
    """One body's parsing. The library calls the `_on_...` methods in the order of the body's bytes."""

    def __init__(self, body: bytes, boundary: bytes) -> None:
        self._body = body
        self._boundary = boundary
        self._parts: list[Part] = []
        self._complete = False
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._content = bytearray()

    def parts(self) -> list[Part]:
        try:
            parser = multipart.MultipartParser(self._boundary, self._callbacks())
            parser.write(self._body)
            parser.finalize()
        except FormParserError as exc:
            raise RequestError("malformed_body", f"body: expected multipart/form-data, {shown(str(exc))}") from None
        if not self._complete:
            raise RequestError("malformed_body", "body: expected multipart/form-data, its last boundary is missing")
        return self._parts

    def _callbacks(self) -> multipart.MultipartCallbacks:
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_name,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        if len(self._parts) == _MAX_PARTS:
            raise RequestError("malformed_body", f"body: expected at most {_MAX_PARTS} parts")
        self._content.clear()
        self._disposition = b""

    def _on_header_name(self, data: bytes, start: int, stop: int) -> None:
        self._header_name += data[start:stop]

    def _on_header_value(self, data: bytes, start: int, stop: int) -> None:
        self._header_value += data[start:stop]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_part_data(self, data: bytes, start: int, stop: int) -> None:
        self._content += data[start:stop]

    def _on_part_end(self) -> None:
        _, options = multipart.parse_options_header(self._disposition)
        if b"name" not in options:
            raise RequestError("malformed_body", "body: a part has no name in its Content-Disposition")
        name = options[b"name"].decode("utf-8", "replace")
        self._parts.append(Part(name=name, is_file=b"filename" in options, content=bytes(self._content)))

    def _on_end(self) -> None:
        self._complete = True
