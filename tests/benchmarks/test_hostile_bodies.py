"""Bodies that are small for what they would make of themselves: refused by counting, whatever their size."""

from __future__ import annotations

import sys
import tracemalloc
from types import FrameType

import pytest

from benchmarks.hostile import ATTACKS, build
from certify.service.errors import RequestError
from certify.service.http.bodies import parse_body

KIB = 1024
# Where it is not malformed_body: the code, and the field that it names.
ANSWERS: dict[str, tuple[str, str | None]] = {
    "form: threshold=1,1,1,...": ("out_of_range", "threshold"),
    "form: norm=aaa...": ("out_of_range", "norm"),
    "form: samples=999...": ("out_of_range", "samples"),
    "form: alpha=0.111...": ("out_of_range", "alpha"),
    "form: boundaries' first bytes": ("taken", None),
    "form: an image that is none": ("taken", None),
    "JSON: image of [],[],...": ("out_of_range", "image"),
    "JSON: image of {},{},...": ("out_of_range", "image"),
    'JSON: image of "","",...': ("out_of_range", "image"),
    "JSON: base64 of line breaks": ("taken", None),
    "JSON: base64 of escapes": ("image_undecodable", "image"),
    "JSON: base64 and one emoji": ("image_undecodable", "image"),
    "JSON: base64 and one raw emoji": ("image_undecodable", "image"),
}
# Whether what is left divides by four depends on the size.
ALIGNED = {"JSON: base64 in lines of two", "JSON: base64 with spaces", "JSON: base64 of escaped slashes"} | {
    "JSON: base64 of an image that is none"
}


def answer(name: str, size: int) -> tuple[str, str | None]:
    try:
        parse_body(build(name, size), content_type=ATTACKS[name][0], content_encoding=None)
    except RequestError as exc:
        field = exc.extra.get("field")
        assert len(exc.detail) < 300
        return exc.code, None if field is None else str(field)
    return "taken", None


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_gets_its_answer(name: str) -> None:
    got = answer(name, 1024 * KIB)
    if name in ALIGNED:
        assert got[0] in ("taken", "image_undecodable")
    else:
        assert got == ANSWERS.get(name, ("malformed_body", None))


def calls(name: str, size: int) -> int:
    """Of Python functions and of C functions from Python, while the body is parsed."""
    body, count = build(name, size), 0

    def counted(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        parse_body(body, content_type=ATTACKS[name][0], content_encoding=None)
    except RequestError:
        pass
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", ATTACKS)
def test_the_work_does_not_grow_with_what_the_body_holds(name: str) -> None:
    small, large = calls(name, 256 * KIB), calls(name, 2048 * KIB)
    assert large <= small + 10
    assert large < 5000


@pytest.mark.parametrize("name", ATTACKS)
def test_the_memory_stays_within_three_times_the_body(name: str) -> None:
    size = 2048 * KIB
    body = build(name, size)
    tracemalloc.start()
    try:
        parse_body(body, content_type=ATTACKS[name][0], content_encoding=None)
    except RequestError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2.2 * size  # beside the body itself


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"threshold":[' + b"0.5," * 64 + b"0.5]}", "out_of_range"),
        (b"{" + b",".join(b'"a%d":1' % n for n in range(3000)) + b"}", "malformed_body"),
        (b"[" * 1500 + b"]" * 1500, "malformed_body"),
        (b'{"alpha":0.' + b"1" * 301 + b"}", "out_of_range"),
    ],
    ids=["items", "keys", "depth", "digits"],
)
def test_limits_hold_in_short_bodies_too(body: bytes, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_body(body, content_type="application/json", content_encoding=None)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "broken",
    [
        b'{"k":"\\"image\\":\\"%s"}',  # inside another string
        b'{"samples":1,"image":"%s","image":"AAAA"}',
        b'{"image":"AAAA","image":"%s"}',
        b'{"image":"%s\n"}',  # a raw line break
        b'{"image":"%s',
    ],
)
def test_a_long_image_is_taken_out_only_where_it_is_the_image(broken: bytes) -> None:
    body = broken.replace(b"%s", b"AAAA" * 20_000)
    with pytest.raises(RequestError) as caught:
        parse_body(body, content_type="application/json", content_encoding=None)
    assert caught.value.code == "malformed_body"


def test_a_long_list_is_no_image() -> None:
    with pytest.raises(RequestError) as caught:
        parse_body(b'{"image":["' + b"AAAA" * 20_000 + b'"]}', content_type="application/json", content_encoding=None)
    assert (caught.value.code, caught.value.extra["field"]) == ("out_of_range", "image")


@pytest.mark.parametrize("outer", [b'{"other":{"image":"%s"}}', b'{"a\\"image":"%s"}', b'{"x":1,"image":"%s"}'])
def test_beside_a_long_image_every_name_is_still_checked(outer: bytes) -> None:
    body = outer.replace(b"%s", b"AAAA" * 20_000)
    with pytest.raises(RequestError) as caught:
        parse_body(body, content_type="application/json", content_encoding=None)
    assert caught.value.code == "unknown_field"


def test_escapes_in_a_long_image_mean_what_json_says() -> None:
    text = b"AA\\/\\u002b" * 20_000 + b"\\r\\nAA\\u003D="
    parsed = parse_body(
        b'{"image" : "' + text + b'", "samples": 2000}', content_type="application/json", content_encoding=None
    )
    assert parsed.image == b"\x00\x0f\xfe" * 20_000 + b"\x00"
    assert parsed.fields.samples == 2000
    with pytest.raises(RequestError, match="image: expected base64"):
        parse_body(
            b'{"image":"' + b"AAAA" * 20_000 + b'\\\\nr"}', content_type="application/json", content_encoding=None
        )


def test_the_first_unknown_part_ends_the_reading() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n1\r\n'
    body = part % b"alpha" + part % b"beta" + b"--b and nothing that is a form"
    with pytest.raises(RequestError) as caught:
        parse_body(body, content_type="multipart/form-data; boundary=b", content_encoding=None)
    assert (caught.value.code, caught.value.extra["field"]) == ("unknown_field", "beta")


@pytest.mark.parametrize("headers", [b"", b"\r\n", b"Content-Type: text/plain\r\n\r\n"])
def test_a_part_without_a_name_is_malformed(headers: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parse_body(
            b"--b\r\n" + headers + b"1\r\n--b--\r\n",
            content_type="multipart/form-data; boundary=b",
            content_encoding=None,
        )
    assert caught.value.code == "malformed_body"


def test_an_empty_file_padding_preamble_and_epilogue_are_read() -> None:
    body = (
        b'\r\n--b \t\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n\r\n'
        b"--b\r\ncontent-disposition:form-data;name=samples\r\n\r\n 2000 \r\n--b--\r\nan epilogue"
    )
    parsed = parse_body(body, content_type='multipart/form-data; boundary="b"', content_encoding=None)
    assert (parsed.image, parsed.fields.samples) == (b"", 2000)
