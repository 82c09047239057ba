"""Forms as browsers, frameworks and form builders send them, and what they are told when it is wrong."""

from __future__ import annotations

import base64
import binascii
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from functools import partial

import pytest

from certify.service.answering.schemas import CertifyFields
from certify.service.errors import RequestError
from certify.service.http.bodies import Named, parse_batch, parse_body
from tests import pictures
from tests.http.test_bodies import IMAGE, code_of, form, from_form, parse_form

PNG = pictures.png()


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


@pytest.mark.parametrize("name", ["base64", "Quoted-Printable"])
def test_every_part_is_read_as_its_transfer_encoding_says(name: str) -> None:
    """Mail libraries, asked for a form, encode whatever is not ASCII, and some all."""
    encode = base64.encodebytes if name == "base64" else partial(binascii.b2a_qp, istext=False)
    image, field = (
        one_part(encode(content).replace(b"\n", b"\r\n"), f"Content-Transfer-Encoding: {name}", name=options)
        for options, content in (('name="image"; filename="a.png"', IMAGE), ('name="sigmas"', b"0.25,0.5"))
    )
    form = image.removesuffix(b"--b--\r\n") + field
    body = parse_body(form, content_type="multipart/form-data; boundary=b", content_encoding=None)
    assert (body.image, body.fields.sigmas) == (IMAGE, [0.25, 0.5])


def test_a_field_whose_base64_is_none_is_out_of_range() -> None:
    form = one_part(b"a", "Content-Transfer-Encoding: base64", name='name="radius"')
    assert code_of(form, "multipart/form-data; boundary=b") == "out_of_range"


def test_a_form_that_a_mail_library_makes_is_read() -> None:
    """Python's own: words before the first boundary, headers in several lines, fields in base64."""
    form = MIMEMultipart("form-data", boundary="b")
    form.preamble = "This is a multi-part message in MIME format."
    image, field = MIMEImage(PNG, "png"), MIMEText("0.25", "plain", "utf-8")
    image.add_header("Content-Disposition", "form-data", name="image", filename="a" * 70 + ".png")
    field.add_header("Content-Disposition", "form-data", name="sigmas")
    form.attach(image)
    form.attach(field)
    body = form.as_bytes(policy=compat32.clone(linesep="\r\n")).partition(b"\r\n\r\n")[2]
    assert b";\r\n filename=" in body and body.startswith(b"This is")
    parsed = parse_body(body, content_type="multipart/form-data; boundary=b", content_encoding=None)
    assert (parsed.image, parsed.fields.sigmas) == (PNG, [0.25])


def test_words_before_the_first_boundary_are_few() -> None:
    for words, code in (
        (b"a" * 1000 + b"\r\n", None),
        (b"a" * 1100 + b"\r\n", "malformed_body"),
        (b"a", "malformed_body"),
    ):
        form = words + one_part(PNG, name='name="image"; filename="a.png"')
        if code is None:
            assert image_of(form) == PNG
        else:
            assert code_of(form, "multipart/form-data; boundary=b") == code


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("filename*=UTF-8''na%C3%AFve%20a.png", "na\u00efve a.png"),
        ("filename*=iso-8859-1'en'%A3.png", "\u00a3.png"),
        ("FileName*=\"utf-8''a.png\"; filename=b.png", "b.png"),
    ],
)
def test_a_file_name_in_extended_notation_counts_where_there_is_no_other(options: str, name: str) -> None:
    form = one_part(PNG, name=f'name="image"; {options}')
    batch = parse_batch(form, content_type="multipart/form-data; boundary=b", content_encoding=None, most=1)
    assert batch.images == [Named(name, PNG)]


def test_a_mark_before_a_fields_text_means_nothing() -> None:
    assert from_form(radius="\ufeff0.5").fields.radius == 0.5


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


@pytest.mark.parametrize("cut", ["[0.5,1", "0.5,1]", "[", "[0.5],1]"])
def test_a_list_with_one_bracket_was_cut_off(cut: str) -> None:
    with pytest.raises(RequestError, match="sigmas.*valid number") as caught:
        from_form(sigmas=cut)
    assert caught.value.code == "out_of_range"
