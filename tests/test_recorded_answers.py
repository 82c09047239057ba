"""Answers are what they were when they were recorded, to the last digit."""

import asyncio
import base64
import json

import pytest

from tests.recorded_requests import (
    FAKE,
    RECORDED,
    REFUSED,
    answers_on_digits,
    answers_on_fake,
    fake_images,
    float32_digits,
)


@pytest.fixture(scope="module")
def recorded() -> dict:
    return json.loads(RECORDED.read_text())


@pytest.mark.parametrize(("kind", "requests"), [("fake", FAKE), ("refused", REFUSED)])
def test_the_fake_backend_answers_as_it_did(recorded, kind, requests):
    assert asyncio.run(answers_on_fake(fake_images(requests), requests)) == recorded[kind]


@pytest.mark.slow
def test_digits_are_answered_as_they_were(recorded, tmp_path):
    pytest.importorskip("torch", reason="the networks need torch (pip install 'certify[torch]')")
    images = [base64.b64decode(image) for image in recorded["digits_images"]]
    assert asyncio.run(answers_on_digits(float32_digits(tmp_path), images)) == recorded["digits"]
