"""JSON that is none of ours is told so in JSON's words, however long it is."""

from __future__ import annotations

import base64
import json

import pytest

from certify.service.errors import RequestError
from certify.service.http.bodies import parse_body
from certify.service.http.json_bodies import parse_json, parse_json_batch
from tests import pictures


@pytest.mark.parametrize("size", [4, 70_000])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_json_in_another_encoding_is_told_which_is_expected(encoding: str, size: int) -> None:
    body = f'{{"image": "{"A" * size}", "norm": "\u00fc"}}'.encode(encoding)
    with pytest.raises(RequestError, match="body: expected a JSON object in UTF-8, got bytes of another") as caught:
        parse_body(body, content_type=f"application/json; charset={encoding}", content_encoding=None)
    assert caught.value.code == "malformed_body"


@pytest.mark.parametrize(
    ("value", "kind"), [(None, "null"), ([1], "a list"), ("{}", "text; was it encoded twice"), (True, "true or false")]
)
def test_json_that_is_no_object_is_named_in_jsons_words(value: object, kind: str) -> None:
    with pytest.raises(RequestError, match=f"expected a JSON object, got {kind}"):
        parse_body(json.dumps(value).encode(), content_type="application/json", content_encoding=None)


@pytest.mark.parametrize("longer", [0, 70_000])
@pytest.mark.parametrize(
    ("image", "said"),
    [
        (["AAAA"], "got a list; send several to /v1/certify/batch"),
        ({"type": "Buffer", "data": [1, 2]}, "got an object"),
        ([1, 2], "got a list"),
    ],
)
def test_what_stands_in_the_place_of_text_is_said_however_long_it_is(image: object, said: str, longer: int) -> None:
    body = json.dumps({"radius": 0.3, "image": image}).encode()
    body = body[:-1] + b" " * longer + b"}"
    with pytest.raises(RequestError, match="image: expected base64 text, ") as caught:
        parse_body(body, content_type="application/json", content_encoding=None)
    assert caught.value.code == "out_of_range" and said in caught.value.detail


@pytest.mark.parametrize("several", [False, True])
def test_a_whole_image_is_not_blamed_for_what_is_too_long_beside_it(several: bool) -> None:
    text = base64.b64encode(pictures.png()).decode()
    body = json.dumps({"image": [text] if several else text, "threshold": [1] * 30_000}).encode()
    with pytest.raises(RequestError, match="got more, perhaps in threshold") as caught:
        (parse_json_batch(body, most=4) if several else parse_json(body))
    assert caught.value.code == "malformed_body"


def test_text_that_is_too_long_is_named_by_its_member() -> None:
    body = json.dumps({"radius": 0.3, "photo": "A" * 70_000}).encode()
    with pytest.raises(RequestError, match="beside the text of image, got more, perhaps in photo"):
        parse_body(body, content_type="application/json", content_encoding=None)
