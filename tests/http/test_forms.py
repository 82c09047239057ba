"""Forms as browsers, frameworks and form builders send them, and what they are told when it is wrong."""

from __future__ import annotations

import base64

import pytest

from certify.service.answering.schemas import CertifyFields
from certify.service.errors import RequestError
from certify.service.http.bodies import parse_body
from tests import pictures
from tests.http.test_bodies import IMAGE, code_of, form, from_form, parse_form


def test_a_field_left_blank_is_absent() -> None:
    blank = {name: "" for name in CertifyFields.model_fields} | {"radius": " \t"}
    assert from_form(**blank).fields == CertifyFields()
    assert from_form(sigmas=["", "0.5", ""]).fields.sigmas == [0.5]
    blank_file = b'--b\r\nContent-Disposition: form-data; name="image"; filename=""\r\n\r\n\r\n--b--\r\n'
    assert code_of(blank_file, "multipart/form-data; boundary=b") == "missing_field"
    with pytest.raises(RequestError) as caught:
        from_form(epsilon="")
    assert caught.value.code == "unknown_field"


@pytest.mark.parametrize("text", ["on", "On", "true", "1", "yes", "checked"])
def test_a_ticked_box_is_true(text: str) -> None:
    assert from_form(resize=text).fields.resize is True
    # With a hidden field beside it, as Rails and ASP.NET send it.
    for hidden in ("false", "0"):
        assert from_form(resize=[hidden, text]).fields.resize is from_form(resize=[text, hidden]).fields.resize is True


@pytest.mark.parametrize("given", ["off", "no", "0", "false", "", ["", "0"]])
def test_a_box_that_is_not_ticked_is_false(given: str | list[str]) -> None:
    assert from_form(resize=given).fields.resize is False


@pytest.mark.parametrize("given", ["maybe", "onn", ["on", "on"], ["0", "0"], ["on", "0", "0"], ["0", "maybe"]])
def test_a_box_is_ticked_or_not(given: str | list[str]) -> None:
    with pytest.raises(RequestError, match="resize: "):
        from_form(resize=given)


def test_a_file_in_another_field_is_told_where_it_belongs() -> None:
    with pytest.raises(RequestError, match="photo: expected the file in the field image") as caught:
        parse_form(form({}, [("photo", ("a.png", IMAGE))]))
    assert (caught.value.code, caught.value.extra["field"]) == ("unknown_field", "photo")


def test_a_body_of_zero_bytes_says_so() -> None:
    for kind in ("application/json", "multipart/form-data; boundary=b"):
        with pytest.raises(RequestError, match="got zero bytes"):
            parse_body(b"", content_type=kind, content_encoding=None)


def one_part(content: bytes, *headers: str, name: str = 'name="image"', line_end: str = "\r\n") -> bytes:
    head = line_end.join(["--b", f"Content-Disposition: form-data; {name}", *headers, "", ""])
    return head.encode() + content + f"{line_end}--b--{line_end}".encode()


def image_of(form: bytes) -> object:
    return parse_body(form, content_type="multipart/form-data; boundary=b", content_encoding=None).image


@pytest.mark.parametrize("headers", [["Content-Type: image/png"], ["Content-Type: Application/Octet-Stream"], []])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_needs_no_filename(kind: str, headers: list[str]) -> None:
    """Clients that are given bytes have none, and those that write `filename*` alone are read as such."""
    picture = pictures.encoded(pictures.gray(), kind)
    for name in ('name="image"', "name=\"image\"; filename*=UTF-8''na%C3%AFve.png"):
        assert image_of(one_part(picture, *headers, name=name)) == picture


@pytest.mark.parametrize("text", ["undefined", "[object Object]", "/tmp/a.png", "iVBORw0KGgo="])
def test_text_is_no_file_and_is_shown(text: str) -> None:
    for headers in ([], ["Content-Type: text/plain; charset=UTF-8"]):
        with pytest.raises(RequestError, match="a file part with a filename, got text") as caught:
            image_of(one_part(text.encode(), *headers))
        assert caught.value.code == "missing_field" and text in caught.value.detail


def test_a_part_in_base64_is_read_as_its_header_says() -> None:
    png, name = pictures.png(), 'name="image"; filename="a.png"'
    text = base64.encodebytes(png).replace(b"\n", b"\r\n")
    assert image_of(one_part(text, "Content-Transfer-Encoding: BASE64", name=name)) == png
    assert image_of(one_part(png, "Content-Transfer-Encoding: binary", name=name)) == png


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (one_part(IMAGE, line_end="\n"), "a line break (CRLF) after the boundary"),
        (b'{"image": ""}', 'its boundary, --b, got {"image": ""}'),
        (b"------WebKitFormBoundary7MA4\r\n", "its boundary, --b, got ------WebKitFormBoundary7MA4"),
    ],
)
def test_what_is_no_such_form_is_shown(body: bytes, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        image_of(body)
    assert caught.value.code == "malformed_body" and said in caught.value.detail


@pytest.mark.parametrize("text", ["1e3", "1000.0", "+1E+3", "01000"])
def test_a_whole_number_may_be_written_as_any_number(text: str) -> None:
    assert from_form(samples=text).fields.samples == 1000


def test_a_list_with_brackets_is_told_its_name() -> None:
    for name in ("sigmas[]", "sigmas[0]"):
        with pytest.raises(RequestError, match="expected sigmas, got it with brackets") as caught:
            from_form(**{name: "0.5"})
        assert (caught.value.code, caught.value.extra["field"]) == ("unknown_field", name)
