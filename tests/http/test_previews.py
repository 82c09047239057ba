"""POST /v1/preview: pictures of what the network sees, of the digits bundle; the fake one shows nothing."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from certify import AsyncClient
from certify.service.answering.seeds import preview_seed
from certify.service.backends.embedded import EmbeddedBackend
from certify.service.http.examples import DIGIT
from tests import pictures
from tests.http.streamed import facts
from tests.servers import InProcess, in_process

pytestmark = pytest.mark.anyio

URL = "/v1/preview"


@pytest.fixture
async def digits(tmp_path: Path) -> AsyncIterator[InProcess]:
    pytest.importorskip("openvino", reason="needs the network in this process (pip install 'certify[cpu]')")
    (tmp_path / "keys").write_text(f"camera {hashlib.sha256(b'k').hexdigest()} 100 2\n")
    backend: Any = EmbeddedBackend("digits", workers=1)
    async with in_process(backend, api_keys_file=str(tmp_path / "keys")) as service:
        service.client.headers["Authorization"] = "Bearer k"
        yield service


async def show(service: InProcess, image: bytes = DIGIT, **fields: Any) -> dict[str, Any]:
    response = await service.client.post(URL, files={"image": ("a.png", image)}, data=fields)
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


def pixels_of(url: str) -> NDArray[np.float64]:
    head, _, text = url.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))), dtype=np.float64)


async def test_pictures_are_noisy_by_their_scale_and_the_denoiser_takes_it_away(digits: InProcess) -> None:
    shown = await show(digits, draws="4")
    clean = np.asarray(Image.open(io.BytesIO(DIGIT)), dtype=np.float64)
    assert np.array_equal(pixels_of(shown["image"]), clean)
    assert shown["input"]["shape"] == [1, 8, 8] and shown["bundle"]["name"] == "digits"
    assert [level["sigma"] for level in shown["levels"]] == [0.12, 0.25, 0.5]
    errors = []
    for level in shown["levels"]:
        assert len(level["draws"]) == 4 and level["noise"] == "gaussian"
        noisy, denoised = ([pixels_of(draw[what]) for draw in level["draws"]] for what in ("noisy", "denoised"))
        assert len({picture.tobytes() for picture in noisy}) == 4
        errors.append((np.mean(np.abs(np.array(noisy) - clean)), np.mean(np.abs(np.array(denoised) - clean))))
    noise, rest = np.array(errors).T
    assert (np.diff(noise) > 0).all() and (rest < 0.9 * noise).all()


async def test_the_same_picture_is_shown_the_same_and_by_json(digits: InProcess) -> None:
    shown = await show(digits, sigmas="0.5", draws="1")
    body = {"image": base64.b64encode(DIGIT).decode(), "sigmas": [0.5], "draws": 1}
    again = (await digits.client.post(URL, json=body)).json()
    assert facts(again) == facts(shown)
    more = await show(digits, sigmas="0.5", draws="2")
    assert more["levels"][0]["draws"][:1] == shown["levels"][0]["draws"]


async def test_it_is_paid_for_and_refused_as_a_request_is(digits: InProcess) -> None:
    for fields, code in (
        ({"draws": "5"}, "out_of_range"),
        ({"sigmas": "0.3"}, "unknown_sigma"),
        ({"samples": "100"}, "unknown_field"),
    ):
        response = await digits.client.post(URL, files={"image": ("a.png", DIGIT)}, data=fields)
        assert (response.status_code, response.json()["code"]) == (422, code)
    response = await digits.client.post(URL, files={"image": ("a.png", pictures.png(size=(9, 9)))})
    assert response.json()["code"] == "image_wrong_size"
    assert (await show(digits, pictures.png(size=(9, 9)), resize="on", draws="1"))["input"]["resized"] is True
    for _ in range(8):  # 3 + 8 * 12 = 99 of 100
        await show(digits, draws="4")
    spent = await digits.client.post(URL, files={"image": ("a.png", DIGIT)})
    assert (spent.status_code, spent.json()["code"]) == (429, "budget_spent")
    assert digits.gateway.admission.idle


async def test_the_client_shows_the_same(digits: InProcess) -> None:
    async with AsyncClient("http://certify", key="k", transport=digits.client._transport) as client:
        shown = await client.preview(DIGIT, sigmas=0.5, draws=1)
    assert facts(shown.model_dump(mode="json")) == facts(await show(digits, sigmas="0.5", draws="1"))


async def test_a_backend_that_returns_votes_alone_says_so() -> None:
    async with in_process() as service:
        response = await service.client.post(URL, files={"image": ("a.png", DIGIT)})
        assert (response.status_code, response.json()["code"]) == (501, "preview_unavailable")
        assert "embedded" in response.json()["detail"] and "fake" in response.json()["detail"]


def test_its_noise_is_no_certificates() -> None:
    """The golden value holds the scheme: another one would show other pictures, and might meet a certificate's."""
    key, sha256 = b"k" * 32, bytes(range(32))
    assert preview_seed(key, sha256, "sha256:0", 0.5) != preview_seed(key, sha256, "sha256:0", 0.25)
    assert preview_seed(key, sha256, "sha256:0", 0.5) == 5469642354716120934
