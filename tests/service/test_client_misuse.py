"""What a caller may get wrong: told at once, by a typed error with words, and never with a key in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certify import AsyncClient, BackendUnavailable, Client, RequestError, Retries
from certify.service.client.questions import form
from tests import pictures

NOBODY = "http://127.0.0.1:9"
ONCE = Retries(attempts=1, first_contact_attempts=1)
both = pytest.mark.parametrize("client", [Client, AsyncClient])


@both
@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"url": None}, TypeError, "url: expected text, got NoneType"),
        ({"url": Path("x")}, TypeError, "url: expected text, got PosixPath"),
        ({"retries": 3}, TypeError, "retries: expected Retries.*, got int"),
        ({"timeout": "5"}, TypeError, "timeout: expected seconds or None, got str"),
        ({"timeout": float("nan")}, ValueError, "timeout: expected seconds or None, got NaN"),
        ({"key": 5}, TypeError, "key: expected text, got int"),
        ({"key": b"secret"}, TypeError, "key: expected text, got bytes"),
    ],
)
def test_what_a_client_cannot_be_made_of_is_said(
    client: Callable[..., Any], options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        client(**{"url": NOBODY, **options})


@both
@pytest.mark.parametrize(
    "key", ["secret\n", " secret", "", "secret word", "secret-\u043a\u043b\u044e\u0447", "secret\x00"]
)
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(client: Callable[..., Any], key: str) -> None:
    """A file's text with its line end, above all."""
    with pytest.raises(ValueError, match="key: expected one word of printable ASCII") as caught:
        client(NOBODY, key=key)
    assert "secret" not in str(caught.value) and not isinstance(caught.value, UnicodeError)


def test_an_endless_timeout_is_none() -> None:
    with Client(NOBODY, timeout=float("inf"), retries=ONCE) as client, pytest.raises(BackendUnavailable):
        client.info()


@pytest.mark.parametrize("end", ["?x=1", "/#top", "/prefix?"])
def test_an_address_ends_with_its_path(end: str) -> None:
    with Client(NOBODY + end, retries=ONCE) as client:
        with pytest.raises(BackendUnavailable, match="expected an address without `\\?` and `#`"):
            client.certify(pictures.png())


@pytest.mark.parametrize("images", ["digit.png", b"bytes", Path("digit.png"), None, 5, pictures.gray()])
def test_one_image_is_not_many(images: Any) -> None:
    async def awaited() -> None:
        async with AsyncClient(NOBODY) as client:
            client.certify_many(images)

    with Client(NOBODY) as client, pytest.raises(TypeError, match="images: expected several, in a list"):
        client.certify_many(images)
    with pytest.raises(TypeError, match="images: expected several, in a list"):
        asyncio.run(awaited())


def test_how_many_at_once_is_a_whole_number() -> None:
    with Client(NOBODY) as client:
        for at_once in (1.5, None, "x"):
            with pytest.raises(TypeError, match="at_once: expected a whole number"):
                next(client.certify_many([b""], at_once=at_once))  # type: ignore[arg-type]


def test_a_files_content_as_text_is_no_path() -> None:
    with Client(NOBODY) as client, pytest.raises(RequestError, match="a file's content as bytes") as caught:
        client.certify(pictures.png().decode("latin-1"))
    assert caught.value.field == "image"


def test_numpys_numbers_are_numbers() -> None:
    fields = {"samples": np.int64(2000), "radius": np.float32(0.5), "sigmas": np.array([0.25, 0.5]), "resize": np.True_}
    assert form(fields) == {"samples": "2000", "radius": "0.5", "sigmas": "[0.25, 0.5]", "resize": "true"}
    with pytest.raises(RequestError, match="sigmas: expected text, a number, a list or a bool: got set"):
        form({"sigmas": {0.25}})
