"""A multipart/form-data body (RFC 7578) -> its parts, all in memory: nothing is spooled to disk.

The body is whole when it comes here, so parts are found with bytes.find: time is linear in bytes, with no work for
each of them, and the first thing that is wrong ends the reading. Parsers made for streams step through padding and
through what only begins like a boundary byte by byte, and call back for each part of a million.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import python_multipart.multipart as multipart

from ..answering.fields import shown
from ..errors import RequestError

__all__ = ("Part", "parse_form")

# Many times what this API has: room for any client's mistakes, none for a flood of tiny parts.
_MAX_PARTS = 64
# Of one part, all headers together: a file name of 255 characters, each percent-encoded UTF-8, and a few more headers.
_MAX_HEADER_BYTES = 2048
# RFC 2046, section 5.1.1, allows 70.
_MAX_BOUNDARY_BYTES = 256
# Before the first boundary: empty lines, or a mail library's words for readers without MIME (RFC 2046, section 5.1.1).
_MAX_PREAMBLE_BYTES = 1024
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*)")
# Mail libraries break a header of more than 78 characters into lines; those after the first are indented (RFC 5322).
_FOLD = re.compile(rb"\r\n[ \t]+")
# RFC 8187: how clients that trust no other spelling write a name that is not ASCII, some of them nothing else.
_EXTENDED_FILENAME = re.compile(
    rb";[ \t]*filename\*[ \t]*=[ \t]*\"?(utf-8|iso-8859-1)'[^';]*'([^;\s\"]+)", re.IGNORECASE
)
# White space that a gateway may have put after a boundary (RFC 2046, section 5.1.1); some is too much.
_LINE_END = re.compile(rb"[ \t]{0,64}\r\n")


@dataclass(frozen=True, kw_only=True)
class Part:
    name: str  # of the field, not yet looked at
    filename: str | None  # as it was sent, not looked at either; None: there is none
    kind: bytes  # its Content-Type, empty where there is none
    encoding: bytes  # its Content-Transfer-Encoding, likewise
    content: bytes


def parse_form(body: bytes, boundary: bytes, *, more: int = 0) -> Iterator[Part]:
    """The parts in their order, each read when it is asked for. more: than a request for one image may have.

    Raises RequestError `malformed_body`.
    """
    if not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
        raise _malformed(f"expected a boundary of 1 to {_MAX_BOUNDARY_BYTES} bytes, got {len(boundary)}")
    return _FormParser(body, boundary).parts(_MAX_PARTS + more)


class _FormParser:
    """One body and a place in it: `_at` is the first byte that has not been read."""

    def __init__(self, body: bytes, boundary: bytes) -> None:
        self._body = body
        self._delimiter = b"\r\n--" + boundary
        self._at = 0

    def parts(self, most: int) -> Iterator[Part]:
        self._skip_first_delimiter()
        for _ in range(most):
            if self._ends():
                return
            self._skip_line_end()
            headers = self._read_headers()
            name, filename = _names(headers.get(b"content-disposition", b""))
            yield Part(
                name=name,
                filename=filename,
                kind=headers.get(b"content-type", b"").lower(),
                encoding=headers.get(b"content-transfer-encoding", b"").strip().lower(),
                content=self._read_content(),
            )
        if not self._ends():
            raise _malformed(f"expected at most {most} parts")

    def _skip_first_delimiter(self) -> None:
        """It begins a line, perhaps the body's first."""
        first = self._delimiter[2:]
        at = self._body.find(first, 0, _MAX_PREAMBLE_BYTES + len(first))
        if at < 0 or self._body[at - 1 : at] not in (b"", b"\n"):
            got = _line(self._body[:80].partition(b"\n")[0]) if self._body else "zero bytes"
            raise _malformed(f"expected multipart/form-data that begins with its boundary, {_line(first)}, got {got}")
        self._at = at + len(first)

    def _ends(self) -> bool:
        """After a delimiter: it is the last one. What follows it is ignored, as RFC 2046 wants."""
        return self._body.startswith(b"--", self._at)

    def _skip_line_end(self) -> None:
        line_end = _LINE_END.match(self._body, self._at)
        if line_end is None:
            raise _malformed(f"expected a line break (CRLF) after the boundary at byte {self._at}")
        self._at = line_end.end()

    def _read_headers(self) -> dict[bytes, bytes]:
        """By their names in lower case."""
        # From two bytes back: a part without headers begins with the empty line.
        end = self._body.find(b"\r\n\r\n", self._at - 2, self._at + _MAX_HEADER_BYTES)
        if end < 0:
            raise _malformed(f"expected at most {_MAX_HEADER_BYTES} bytes of a part's headers and an empty line")
        headers = {}
        lines = _FOLD.sub(b" ", self._body[self._at : end]).split(b"\r\n") if end > self._at else []
        for line in lines:
            header = _HEADER.fullmatch(line)
            if header is None:
                raise _malformed(f"expected `name: value` in the headers of the part at byte {self._at}")
            headers[header[1].lower()] = header[2]
        self._at = end + 4
        return headers

    def _read_content(self) -> bytes:
        end = self._body.find(self._delimiter, self._at)
        if end < 0:
            raise _malformed("expected multipart/form-data, its last boundary is missing: was the body cut off?")
        content = self._body[self._at : end]
        self._at = end + len(self._delimiter)
        return content


def _names(disposition: bytes) -> tuple[str, str | None]:
    """The field's name and the part's filename."""
    _, options = multipart.parse_options_header(disposition)
    if b"name" not in options:
        raise _malformed("expected a name in each part's Content-Disposition, one has none")
    name, filename, charset = options[b"name"].decode("utf-8", "replace"), options.get(b"filename"), "utf-8"
    if filename is None and (extended := _EXTENDED_FILENAME.search(disposition)) is not None:
        charset, filename = extended[1].decode(), unquote_to_bytes(extended[2])
    return name, None if filename is None else filename.decode(charset, "replace")


def _line(line: bytes) -> str:
    return shown(line.decode("latin-1"))


def _malformed(what: str) -> RequestError:
    return RequestError("malformed_body", f"body: {what}")
