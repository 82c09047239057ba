"""Answers that come in pieces: lines of JSON, and server-sent events, however the network cuts them."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

__all__ = ("Events", "Lines")

_LINE_END = re.compile("\r\n|\n|\r")


class Lines:
    """NDJSON. A last line without its end was cut off, and never comes."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The lines that this piece ends; empty ones, which mean nothing, are left out."""
        first, *others = piece.split(b"\n")
        self._begun.append(first)
        for each in others:
            if line := b"".join(self._begun).strip():
                yield line
            self._begun = [each]


class Events:
    """text/event-stream, as the HTML standard has it (9.2.6): (event, data). An event that is cut off never comes."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._begun: list[str] = []
        self._after_cr = False
        self._event = ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[tuple[str, str]]:
        """The events that this piece ends."""
        text = self._decode(piece)
        if self._after_cr and text:  # its line has ended already
            text, self._after_cr = text.removeprefix("\n"), False
        self._after_cr = self._after_cr or text.endswith("\r")
        first, *others = _LINE_END.split(text)
        self._begun.append(first)
        for each in others:
            if event := self._line("".join(self._begun)):
                yield event
            self._begun = [each]

    def _line(self, line: str) -> tuple[str, str] | None:
        if not line:
            event = (self._event or "message", "\n".join(self._data)) if self._data else None
            self._event, self._data = "", []
            return event
        name, _, value = line.partition(":")  # a comment has no name
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        return None
