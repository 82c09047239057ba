"""Streams are read alike however they are cut, and steps ask for the next thing whatever came of the last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certify.service.client.streams import Events, Lines

EVENTS = (
    b': hello\n\nevent: progress\ndata: {"samples": 1}\n\r\n: still there\r\nevent:answer\rdata:one\r\r'
    b"data: two\ndata: lines\nid: 3\n\nevent: nothing\n\ndata: cut off"
)
SAID = [("progress", '{"samples": 1}'), ("answer", "one"), ("message", "two\nlines")]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False) if b > a]


@given(st.lists(st.integers(0, len(EVENTS))))
def test_events_are_the_same_however_they_are_cut(places: list[int]) -> None:
    events = Events()
    assert [event for piece in cut(EVENTS, places) for event in events.feed(piece)] == SAID


@given(st.lists(st.text(alphabet='a é"\r\u2028\x85', max_size=5)), st.lists(st.integers(0, 100)))
def test_lines_are_the_same_however_they_are_cut(texts: list[str], places: list[int]) -> None:
    data = "".join(text + "\n" for text in texts).encode() + b"cut off"
    lines = Lines()
    found = [line for piece in cut(data, places) for line in lines.feed(piece)]
    assert found == [line for text in texts if (line := text.encode().strip())]


def test_bytes_that_are_no_utf8_spoil_only_their_event() -> None:
    events = Events()
    assert list(events.feed(b"\xef\xbb\xbfdata: \xff\n\ndata: fine\n\n")) == [
        ("message", "\ufffd"),
        ("message", "fine"),
    ]
