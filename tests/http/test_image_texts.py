"""An image as text, as canvas, FileReader, JOSE and MIME encoders write it."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from certify.service.errors import RequestError
from tests.http.test_bodies import IMAGE, form, from_json, parse_form


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("####", "Only base64 data is allowed"),
        ("AAAAA", "send the whole file"),
        ("A=AA", "send the whole file"),
        ("AA==AA", "Excess data after padding"),
        ("AAAAAA==AAA", "Excess data after padding"),
        ("AAA=A", "send the whole file"),
        ("=", "send the whole file"),
        ("\u00e9", "Only base64 data is allowed"),
        ("data:image/png,%89PNG", "a data URL without `;base64`"),
        ("https://example.org/a.png", "got an address"),
    ],
)
def test_what_is_no_base64_is_undecodable_and_says_what_to_send(text: str, said: str) -> None:
    with pytest.raises(RequestError, match="image: expected base64") as caught:
        from_json(image=text)
    assert caught.value.code == "image_undecodable" and said in caught.value.detail


def test_base64_is_read_in_every_form_that_encoders_give_it() -> None:
    # Bytes whose base64 has both characters in which the alphabets differ, and both lengths of padding.
    for data in (b"\xfb\xff\xfe" * 9, b"\xfb\xff\xfe\x00", b"\xfb\xff\xfe\x00\x01"):
        plain, safe = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
        assert "+" in plain and "-" in safe
        for text in (plain, safe):
            data_urls = f"data:image/png;base64,{text}", f" DATA:;charset=x;BASE64,\r\n{text}"
            escaped = f"data:image/png;base64,{quote(text, safe='')}"
            for whole in (text, text.rstrip("="), *data_urls, escaped):
                assert from_json(image=whole).image == data


def test_a_data_url_in_a_form_s_text_field_is_a_file() -> None:
    url = b"data:image/png;base64," + base64.b64encode(IMAGE)
    assert parse_form(form({}, [("image", (None, url))])).image == IMAGE
