"""Forms as browsers, frameworks and form builders send them, and what they are told when it is wrong."""

from __future__ import annotations

import pytest

from certify.service.answering.schemas import CertifyFields
from certify.service.errors import RequestError
from certify.service.http.bodies import parse_body
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
