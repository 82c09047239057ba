from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from certify.service.answering.fields import parse_texts
from certify.service.answering.schemas import CertifyFields
from certify.service.errors import RequestError
from certify.service.http.bodies import Body, check_query, parse_body, read_limited

IMAGE = b"\x89PNG and any bytes \x00\xff\r\n--boundary"


def from_json(**values: object) -> Body:
    body = json.dumps({"image": base64.b64encode(IMAGE).decode(), **values})
    return parse_body(body.encode(), content_type="application/json", content_encoding=None)


def form(data: dict[str, object], files: object = None) -> httpx.Request:
    """As httpx, a client that does not know this code, would send it."""
    return httpx.Request("POST", "http://certify", data=data, files=files or {"image": ("a.png", IMAGE)})  # type: ignore[arg-type]


def parse_form(request: httpx.Request) -> Body:
    return parse_body(request.read(), content_type=request.headers["content-type"], content_encoding=None)


def from_form(**data: object) -> Body:
    return parse_form(form(data))


def code_of(body: bytes, content_type: str | None = "application/json", encoding: str | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        parse_body(body, content_type=content_type, content_encoding=encoding)
    return caught.value.code


def test_a_form_and_json_with_the_same_fields_are_the_same_request() -> None:
    as_json = from_json(
        radius=0.5,
        norm="linf",
        samples=2000,
        alpha=0.01,
        threshold=[0.5, 0.6],
        final="threshold",
        sigmas=[1.0, 0.5],
        deadline_ms=100,
        resize=True,
    )
    as_form = from_form(
        radius="0.5",
        norm="linf",
        samples="2000",
        alpha="1e-2",
        threshold=["0.5", "0.6"],
        final="threshold",
        sigmas="1.0,0.5",
        deadline_ms="100",
        resize="true",
    )
    assert as_json == as_form
    assert as_form.image == IMAGE


def test_a_body_with_only_an_image_gets_every_default() -> None:
    assert from_form().fields == from_json().fields == CertifyFields()


def test_null_means_the_default() -> None:
    assert from_json(radius=None, samples=None, threshold=None).fields == CertifyFields()


@pytest.mark.parametrize("given", [["0.5", "1"], "0.5,1", " [0.5, 1] ", ["0.5,1"]])
def test_a_form_may_spell_a_list_in_every_documented_way(given: object) -> None:
    assert from_form(sigmas=given).fields.sigmas == [0.5, 1.0]


def test_a_number_without_a_fraction_is_whole() -> None:
    """As JSON Schema has it, and R, Lua and others write it."""
    assert from_json(samples=1000.0, deadline_ms=5e3).fields == from_json(samples=1000, deadline_ms=5000).fields


def test_one_number_stands_for_a_list_of_one() -> None:
    assert from_json(threshold=0.6, sigmas=1).fields == from_form(threshold="0.6", sigmas="1").fields


def test_base64_may_be_broken_into_lines() -> None:
    body = json.dumps({"image": base64.encodebytes(IMAGE * 20).decode()})
    assert parse_body(body.encode(), content_type="application/json; charset=utf-8", content_encoding=None).image == (
        IMAGE * 20
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not JSON",
        b"[]",
        b"3",
        b"null",
        b'"text"',
        b'{"image": "", "image": ""}',
        b"\xff\xfe{}",
        b'{"image": "AAAA"} {}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_json_that_is_no_json_object_is_malformed(body: bytes) -> None:
    assert code_of(body) == "malformed_body"


@pytest.mark.parametrize(
    "literal",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1",
        "0",
        "true",
        '"0.5"',
        "{}",
        "-1e-320",
        "1" + "0" * 400,
        "9" * 5000,
    ],
    ids=lambda literal: literal[:20],
)
@pytest.mark.parametrize("field", ["radius", "samples", "alpha", "threshold", "sigmas", "deadline_ms"])
def test_numbers_that_are_none_are_out_of_range(field: str, literal: str) -> None:
    body = f'{{"image": "AAAA", "{field}": {literal}}}'.encode()
    assert code_of(body) == "out_of_range"


@pytest.mark.parametrize("text", ["NaN", "inf", "-inf", "Infinity", "0x10", "1_000", "1e999", "-1", "٣", "a" * 9999])
@pytest.mark.parametrize("field", ["radius", "samples", "alpha", "threshold", "sigmas", "deadline_ms"])
def test_form_numbers_that_are_none_are_out_of_range(field: str, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        from_form(**{field: text})
    assert caught.value.code == "out_of_range"
    assert caught.value.detail.startswith(field)
    assert len(caught.value.detail) < 500


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("norm", "l3"),
        ("method", "exact"),
        ("norm", 2),
        ("final", "majority"),
        ("resize", 1),
        ("resize", "true"),
        ("samples", 1000.5),
        ("alpha", 0.11),
        ("alpha", 9e-10),
        ("threshold", 1.0),
        ("threshold", 0.499),
        ("threshold", []),
        ("threshold", [0.5, None]),
        ("threshold", [True]),
        ("sigmas", []),
        ("sigmas", [[0.5]]),
        ("sigmas", ["0.5"]),
        ("deadline_ms", 0),
        ("deadline_ms", 10**9),
    ],
)
def test_values_outside_their_field_are_out_of_range(field: str, value: object) -> None:
    with pytest.raises(RequestError) as caught:
        from_json(**{field: value})
    assert caught.value.code == "out_of_range"
    assert str(caught.value.extra["field"]).startswith(field)


def test_a_scalar_field_given_twice_is_out_of_range() -> None:
    with pytest.raises(RequestError, match="samples: expected one value, got 2"):
        from_form(samples=["1000", "2000"])


@pytest.mark.parametrize(
    "name", ["epsilon", "Radius", "image2", "radius ", "\ud800", "\u202e", "__class__", "x" * 10_000]
)
def test_an_unknown_field_is_named_in_printable_ascii(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        from_json(**{name: 1})
    assert caught.value.code == "unknown_field"
    assert caught.value.detail.isascii()
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 300


def test_an_unknown_form_field_is_an_error_even_as_a_file() -> None:
    for files in (
        [("image", ("a.png", IMAGE)), ("mask", ("m.png", b""))],
        [("image", ("a.png", IMAGE)), ("mask", (None, b"1"))],
    ):
        with pytest.raises(RequestError) as caught:
            parse_form(form({}, files))
        assert caught.value.code == "unknown_field"


def test_a_missing_image_is_a_missing_field() -> None:
    assert code_of(b"{}") == "missing_field"
    assert code_of(b'{"image": null}') == "missing_field"
    with pytest.raises(RequestError) as caught:
        parse_form(form({}, {"radius": (None, "1")}))
    assert caught.value.code == "missing_field"


def test_an_image_that_is_no_file_part_is_a_missing_field() -> None:
    with pytest.raises(RequestError, match="a file part with a filename"):
        parse_form(form({}, {"image": (None, b"data")}))


def test_form_text_that_is_not_utf_8_is_out_of_range() -> None:
    with pytest.raises(RequestError, match="norm: expected UTF-8 text"):
        parse_form(form({}, [("image", ("a.png", IMAGE)), ("norm", (None, b"l\xff"))]))


def test_two_images_are_out_of_range() -> None:
    with pytest.raises(RequestError) as caught:
        parse_form(form({}, [("image", ("a.png", IMAGE)), ("image", ("b.png", IMAGE))]))
    assert caught.value.code == "out_of_range"


@pytest.mark.parametrize(
    ("query", "field"), [(b"radius=1", "radius"), (b"x", "x"), (b"a%20b=1&c", "a b"), (b"=", ""), (b"\xff=1", "\\xff")]
)
def test_a_query_is_refused_by_its_first_name(query: bytes, field: str) -> None:
    with pytest.raises(RequestError, match="query") as caught:
        check_query(query)
    assert (caught.value.code, caught.value.extra["field"]) == ("unknown_field", field)
    assert caught.value.detail.isascii()
    check_query(b"")


@pytest.mark.parametrize("image", [3, True, ["AAAA"], {"data": "AAAA"}])
def test_an_image_that_is_no_text_is_out_of_range(image: object) -> None:
    assert code_of(json.dumps({"image": image}).encode()) == "out_of_range"


def test_several_images_are_told_where_they_go() -> None:
    with pytest.raises(RequestError, match="got a list; send several to /v1/certify/batch"):
        from_json(image=["AAAA", "AAAA"])


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "image/png", "application/x-www-form-urlencoded", "\u00ff", ";;;"]
)
def test_another_content_type_is_not_supported(kind: str | None) -> None:
    assert code_of(b"{}", kind) == "unsupported_format"


@pytest.mark.parametrize(
    "kind", ["application/vnd.acme.v1+json; charset=utf-8", "application/json-patch+json", "text/json"]
)
def test_json_by_another_name_is_json(kind: str) -> None:
    assert code_of(b"{}", kind) == "missing_field"


@pytest.mark.parametrize("groups", [1, 70_000])
def test_a_mark_before_json_means_nothing(groups: int) -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"image": "AAAA" * groups}).encode()
    assert parse_body(body, content_type="application/json", content_encoding=None).image == bytes(3 * groups)


def test_a_compressed_body_is_not_supported() -> None:
    assert code_of(b"{}", encoding="gzip") == "unsupported_format"
    assert code_of(b"{}", encoding="Identity") == "missing_field"


@pytest.mark.parametrize(
    ("body", "boundary"),
    [
        (b"", "b"),
        (b"--b", "b"),
        (b"no boundary", "b"),
        (b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc', "b"),
        (b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc\r\n--b\r\n', "b"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--b--\r\n", "b"),
        (b"--b\r\n\r\nabc\r\n--b--\r\n", "b"),
        (b"--b\r\nno colon here\r\n\r\nabc\r\n--b--\r\n", "b"),
        (b'--b\r\nContent-Disposition: form-data; name="alpha"\r\n\r\n1\r\n' * 100 + b"--b--\r\n", "b"),
        (b"--b--\r\n" * 3, "c"),
        (b"--\r\n", ""),
        (b"--b\r\n" + b"a: b\r\n" * 1000, "b"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else None,
)
def test_a_form_that_is_cut_off_or_broken_is_malformed(body: bytes, boundary: str) -> None:
    assert code_of(body, f"multipart/form-data; boundary={boundary}") == "malformed_body"


def test_a_form_without_a_boundary_is_malformed() -> None:
    with pytest.raises(RequestError, match="with its boundary, got none; let the HTTP library") as caught:
        parse_body(b"--b--\r\n", content_type="multipart/form-data", content_encoding=None)
    assert caught.value.code == "malformed_body"


def test_texts_are_read_like_a_form() -> None:
    assert parse_texts({"sigmas": ["0.5,1"], "resize": ["true"]}) == from_form(sigmas="0.5,1", resize="true").fields


@pytest.mark.anyio
async def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_read() -> None:
    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    with pytest.raises(RequestError) as caught:
        await read_limited(unread(), declared="100000001", limit=100)
    assert caught.value.code == "body_too_large"
    assert caught.value.extra == {"max_body_bytes": 100}


@pytest.mark.anyio
@pytest.mark.parametrize("declared", [None, "nonsense", "5"])
async def test_a_body_is_counted_as_it_comes(declared: str | None) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 10

    with pytest.raises(RequestError, match="expected at most 100 bytes"):
        await read_limited(endless(), declared=declared, limit=100)
    assert taken == 11


@pytest.mark.anyio
async def test_a_body_of_exactly_the_limit_is_read() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 60
        yield b"y" * 40

    assert await read_limited(body(), declared="100", limit=100) == b"x" * 60 + b"y" * 40
