"""An Accept header is read as RFC 9110 has it."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from certify.service.http.accepts import asks_for

TYPE = "application/vnd.certify.certificate.v1+json"
ASKS = [
    TYPE,
    TYPE.upper(),
    f"{TYPE}, application/json",
    f"application/json;q=0.9,{TYPE}",
    f"text/html, {TYPE} ; q=0.2 , */*;q=0.1",
    f"{TYPE};q=0.001",
    f"{TYPE};charset=utf-8;Q=1.000",
    f"{TYPE};q=0, {TYPE}",
]
DOES_NOT = [
    "",
    "*/*",
    "application/*",
    f"{TYPE};q=0",
    f"{TYPE} ; q = 0.000",
    f"{TYPE};q=0.5, application/json",
    f"application/json, {TYPE};q=0",
    f"{TYPE};q=-1",
    f"{TYPE};q=nan",
    f"{TYPE};q=",
    f"x-{TYPE}",
    f"{TYPE}+more",
]


@pytest.mark.parametrize("accept", ASKS)
def test_a_type_that_is_named_is_asked_for(accept: str) -> None:
    assert asks_for(Headers({"accept": accept}), TYPE)


@pytest.mark.parametrize("accept", DOES_NOT)
def test_a_type_that_is_refused_or_not_named_is_not(accept: str) -> None:
    assert not asks_for(Headers({"accept": accept}), TYPE)


def test_a_header_may_come_in_several_lines() -> None:
    lines = [(b"accept", b"text/html"), (b"accept", TYPE.encode())]
    assert asks_for(Headers(raw=lines), TYPE)
    assert not asks_for(Headers(), TYPE)
